"""Classes and tenants of a policy, from the header to the queue."""

from __future__ import annotations

import asyncio
import math
from typing import Any
from unittest.mock import AsyncMock

import pytest

from services.gateway.delivery import terminal
from services.gateway.errors import ApiError
from services.gateway.slo import Slo
from services.gateway.tenancy import tenant_of
from services.gateway.terms import Terms, agree, offers
from shared.policy import Policy
from shared.scripts import cancel
from shared.topics import TOKENS
from tests.unit.services.gateway.conftest import Served

POLICY = Policy.model_validate(
    {
        "classes": {
            "coding": {"tpot": "1.5x", "ttft_ms": 900, "tier": 0},
            "chat": {"tpot_ms": 50, "tier": 1},
            "batch": {"tier": 3},
        },
        "tenants": {
            "acme": {"classes": ["coding", "chat"], "default": "chat", "weight": 3, "tpot_ms_min": 20},
            "default": {"classes": ["batch"], "default": "batch"},
        },
    }
)


NOTHING = Slo()


def terms(tenant: str = "acme", wanted: str | None = None, asked: Slo = NOTHING) -> Terms:
    return agree(POLICY, tenant, wanted, asked, zero_load_ms=40.0, limit=100)


def test_the_tenants_default_class_gives_targets_tier_and_weight() -> None:
    found = terms()
    assert found.slo == Slo(50.0, math.inf, "chat")
    assert (found.tier, found.weight, found.bounds.limit, found.bounds.share) == (1, 3.0, 100, 4.0)


def test_a_tenant_is_offered_its_classes_with_the_targets_that_they_give_now() -> None:
    assert offers(POLICY, "acme", zero_load_ms=10.0) == [
        {"class": "coding", "tpot_ms": 20.0, "ttft_ms": 900.0, "tier": 0, "is_default": False},
        {"class": "chat", "tpot_ms": 50.0, "ttft_ms": None, "tier": 1, "is_default": True},
    ]
    (batch,) = offers(POLICY, "default", zero_load_ms=None)
    assert (batch["tpot_ms"], batch["ttft_ms"], batch["is_default"]) == (None, None, True)
    assert offers(None, "default", zero_load_ms=10.0) == []


def test_a_ratio_is_of_the_zero_load_latency() -> None:
    assert terms(wanted="coding").slo == Slo(60.0, 900.0, "coding")
    unknown = agree(POLICY, "acme", "coding", Slo(), zero_load_ms=None, limit=100)
    assert unknown.slo == Slo(math.inf, 900.0, "coding")


def test_what_the_client_asks_goes_before_the_class_down_to_the_tenants_least() -> None:
    assert terms(asked=Slo(tpot_ms=30, ttft_ms=70)).slo == Slo(30, 70, "chat")
    assert terms(asked=Slo(tpot_ms=5)).slo == Slo(20.0, math.inf, "chat")
    assert terms("default", asked=Slo(tpot_ms=5)).slo == Slo(5, math.inf, "batch")


def test_the_lowest_tier_is_full_first() -> None:
    assert terms("default").bounds.limit == 25
    assert agree(POLICY, "default", None, Slo(), zero_load_ms=None, limit=2).bounds.limit == 1


def test_a_class_that_is_not_the_tenants_is_forbidden() -> None:
    with pytest.raises(ApiError, match="coding, chat") as caught:
        terms(wanted="batch")
    assert (caught.value.status, caught.value.code) == (403, "class_not_allowed")


def test_without_a_policy_there_are_no_classes() -> None:
    found = agree(None, "default", None, Slo(30), zero_load_ms=1.0, limit=7)
    assert (found.slo, found.tier, found.weight, found.bounds.limit) == (Slo(30), 2, 1.0, 7)
    with pytest.raises(ApiError, match="without a policy"):
        agree(None, "default", "chat", Slo(), zero_load_ms=1.0, limit=7)


def test_a_header_names_the_tenant() -> None:
    assert tenant_of({"x-adaserve-tenant": "acme"}, POLICY) == "acme"
    assert tenant_of({}, POLICY) == "default"
    assert tenant_of({"x-adaserve-tenant": "acme"}, None) == "default"
    with pytest.raises(ApiError, match="names no tenant") as caught:
        tenant_of({"x-adaserve-tenant": "globex"}, POLICY)
    assert (caught.value.status, caught.value.code) == (403, "unknown_tenant")
    without = POLICY.model_copy(update={"tenants": {"acme": POLICY.tenants["acme"]}})
    with pytest.raises(ApiError, match="is required"):
        tenant_of({}, without)


@pytest.fixture
def policy() -> Policy:
    return POLICY


async def ask(served: Served, headers: dict[str, str] | None = None, **body: Any) -> Any:
    """The answer's status and JSON."""
    answer = await served.http.post("/v1/completions", json={"prompt": "x", **body}, headers=headers or {})
    return answer.status_code, answer.json(), answer.headers


async def test_a_request_is_served_under_its_tenants_terms(served: Served) -> None:
    status, answer, _ = await ask(served, {"x-adaserve-tenant": "acme"}, adaserve={"slo": {"ttft_ms": 9000}})
    assert status == 200
    told = answer["metrics"]["slo"]
    assert (told["class"], told["tpot_target_ms"], told["ttft_target_ms"]) == ("chat", 50.0, 9000.0)
    request = served.verifier.requests[0]
    assert (request.tenant, request.slo_class, request.tier, request.tpot_ms) == ("acme", "chat", 1, 50.0)
    weight, cost = served.redis.hmget(served.keys.request(request.request), "weight", "cost")
    assert (weight, cost) == (b"3.0", str(len(request.prompt) + min(256, request.max_tokens)).encode())


async def test_another_tenants_stream_and_class_are_out_of_reach(served: Served) -> None:
    await ask(served, {"x-adaserve-tenant": "acme"})
    stream = f"/v1/streams/{served.verifier.requests[0].request}"
    assert (await served.http.get(stream)).status_code == 404
    assert (await served.http.get(stream, headers={"x-adaserve-tenant": "acme"})).status_code == 200
    status, answer, _ = await ask(served, adaserve={"slo": {"class": "coding"}})
    assert (status, answer["error"]["code"]) == (403, "class_not_allowed")


@pytest.mark.parametrize("options", [{"queue_limit": 40}])
async def test_a_tenant_may_not_fill_the_queue_and_hears_when_to_ask_again(
    served: Served, options: dict[str, Any]
) -> None:
    await served.verifier.pause()
    served.verifier.about.update(running=4, tokens_per_s=50.0, period_ms=5.0, favoured_tokens=2.0)
    await served.verifier.beat()
    await served.until(lambda: served.gateway._fleet.paces[0].running == 4)
    served.redis.hset(served.keys.backlog(3), mapping={"requests:default": 40, "tokens": 123})
    served.redis.hset(served.keys.backlog(0), "tokens", 1)
    status, answer, headers = await ask(served)  # 40 is four times the ten places of the lowest tier
    assert (status, answer["error"]["code"]) == (429, "tenant_queue_full")
    assert (headers["retry-after"], headers["retry-after-ms"]) == ("3", "2480")


@pytest.mark.parametrize("options", [{"queue_limit": 4}])
async def test_whoever_was_too_slow_for_the_last_place_is_refused_at_the_queue(
    served: Served, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    await served.verifier.pause()
    served.redis.zadd(served.keys.waiting(3), {"another": 1})
    door = served.gateway._submission._door
    monkeypatch.setattr(door, "check", AsyncMock())
    status, answer, headers = await ask(served)
    assert (status, answer["error"]["code"]) == (429, "queue_full")
    assert headers["retry-after-ms"] == "1000"  # of an unknown pace
    assert not served.redis.keys(served.keys.request("*"))


async def test_a_target_out_of_reach_now_is_refused_with_what_is_not(served: Served) -> None:
    served.verifier.about.update(running=4, tokens_per_s=50.0, period_ms=300.0, favoured_tokens=2.0)
    await served.verifier.beat()
    await served.until(lambda: served.gateway._fleet.paces[0].running == 4)
    acme = {"x-adaserve-tenant": "acme"}
    status, answer, headers = await ask(served, acme)
    assert (status, answer["error"]["code"]) == (429, "slo_unreachable_now")
    assert answer["error"]["adaserve"] == {"achievable_tpot_ms": 150.0}
    assert "150" in answer["error"]["message"]
    assert headers["retry-after-ms"] == "100"
    assert not served.verifier.requests
    assert (await ask(served, acme, adaserve={"slo": {"tpot_ms": 151}}))[0] == 200
    assert (await ask(served))[0] == 200  # best effort


@pytest.mark.parametrize("options", [{"refuse_unreachable": False}])
async def test_an_operator_may_prefer_late_answers(served: Served, options: dict[str, Any]) -> None:
    served.verifier.about.update(running=4, tokens_per_s=50.0, period_ms=300.0, favoured_tokens=2.0)
    await served.verifier.beat()
    await served.until(lambda: served.gateway._fleet.paces[0].running == 4)
    assert (await ask(served, {"x-adaserve-tenant": "acme"}))[0] == 200


async def test_a_deadline_is_queued_as_what_is_left_of_it(served: Served) -> None:
    await served.verifier.pause()
    asking = asyncio.create_task(ask(served, adaserve={"deadline_ms": 5000}))
    await served.until(lambda: served.redis.keys(served.keys.request("*")))
    (key,) = served.redis.keys(served.keys.request("*"))
    budget = served.redis.hget(key, "budget_ms")
    assert budget is not None
    assert 0 < float(budget) < 5000
    request = key.decode().rpartition(":")[2]
    event = TOKENS.encode(terminal(request, "expired"))
    await served.verifier.client.execute_command(*cancel(served.keys, request=request, event=event).command())
    status, answer, _ = await asking
    assert (status, answer["error"]["code"]) == (504, "deadline_exceeded")


async def test_a_deadline_that_is_over_is_not_queued(served: Served) -> None:
    status, answer, _ = await ask(served, adaserve={"deadline_ms": 1e-6})
    assert (status, answer["error"]["code"]) == (504, "deadline_exceeded")
    assert not served.redis.keys(served.keys.request("*"))


@pytest.mark.parametrize("policy", [POLICY])
async def test_models_list_the_classes_on_offer_to_who_asks(served: Served) -> None:
    for path in ("/v1/models", "/v1/models/default"):
        answer = (await served.http.get(path, headers={"x-adaserve-tenant": "acme"})).json()
        model = answer["data"][0] if "data" in answer else answer
        assert [offer["class"] for offer in model["slo_classes"]] == ["coding", "chat"]
    (plain,) = (await served.openai.models.list()).data
    assert [offer["class"] for offer in plain.to_dict()["slo_classes"]] == ["batch"]  # type: ignore[attr-defined]
    unknown = await served.http.get("/v1/models", headers={"x-adaserve-tenant": "nobody"})
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (403, "unknown_tenant")
