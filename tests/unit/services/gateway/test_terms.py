"""Classes and tenants of a policy, from the header to the queue."""

from __future__ import annotations

import asyncio
import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import AsyncMock

import pytest

from services.gateway.delivery import terminal
from services.gateway.errors import ApiError
from services.gateway.slo import Slo
from services.gateway.tenancy import tenant_of
from services.gateway.terms import Terms, Wish, agree, offers
from shared.policy import Policy
from shared.scripts import cancel
from shared.topics import TOKENS
from tests.unit.services.gateway.conftest import Served

CONTENT: dict[str, Any] = {
    "service_tiers": {"priority": "coding", "flex": "batch", "default": "chat"},
    "classes": {
        "coding": {"tpot": "1.5x", "ttft_ms": 900, "tier": 0},
        "chat": {"tpot_ms": 50, "tier": 1},
        "batch": {"tier": 3},
    },
    "tenants": {
        "acme": {
            "classes": ["coding", "chat"],
            "default": "chat",
            "weight": 3,
            "tpot_ms_min": 20,
            "max_tokens": 7,
        },
        "default": {
            "classes": ["batch"],
            "default": "batch",
            "acceptance": ["exact", {"typical": {"threshold": 0.3}}],
        },
    },
}
POLICY = Policy.model_validate(CONTENT)

NOTHING = Slo()
AT = datetime(2026, 11, 27, 12, tzinfo=UTC)


def terms(
    tenant: str = "acme",
    wanted: str | None = None,
    asked: Slo = NOTHING,
    service_tier: str | None = None,
    *,
    policy: Policy | None = POLICY,
    zero_load_ms: float | None = 40.0,
    limit: int = 100,
) -> Terms:
    wish = Wish(service_class=wanted, service_tier=service_tier, targets=asked)
    return agree(policy, tenant, wish, at=AT, zero_load_ms=zero_load_ms, limit=limit)


def test_the_tenants_default_class_gives_targets_tier_and_weight() -> None:
    found = terms()
    assert found.slo == Slo(50.0, math.inf, "chat")
    assert (found.tier, found.weight, found.bounds.limit, found.bounds.share) == (1, 3.0, 100, 4.0)


def test_a_tenant_is_offered_its_classes_with_the_targets_that_they_give_now() -> None:
    assert offers(POLICY, "acme", at=AT, zero_load_ms=10.0) == [
        {"class": "coding", "tpot_ms": 20.0, "ttft_ms": 900.0, "tier": 0, "is_default": False},
        {"class": "chat", "tpot_ms": 50.0, "ttft_ms": None, "tier": 1, "is_default": True},
    ]
    (batch,) = offers(POLICY, "default", at=AT, zero_load_ms=None)
    assert (batch["tpot_ms"], batch["ttft_ms"], batch["is_default"]) == (None, None, True)
    assert offers(None, "default", at=AT, zero_load_ms=10.0) == []


def test_a_ratio_is_of_the_zero_load_latency() -> None:
    assert terms(wanted="coding").slo == Slo(60.0, 900.0, "coding")
    unknown = terms(wanted="coding", zero_load_ms=None)
    assert unknown.slo == Slo(math.inf, 900.0, "coding")


def test_what_the_client_asks_goes_before_the_class_down_to_the_tenants_least() -> None:
    assert terms(asked=Slo(tpot_ms=30, ttft_ms=70)).slo == Slo(30, 70, "chat")
    raised = terms(asked=Slo(tpot_ms=5))
    assert (raised.slo, raised.tpot_raised_from_ms) == (Slo(20.0, math.inf, "chat"), 5)
    assert terms(asked=Slo(tpot_ms=20)).tpot_raised_from_ms is None
    assert terms("default", asked=Slo(tpot_ms=5)).slo == Slo(5, math.inf, "batch")


def test_the_lowest_tier_is_full_first() -> None:
    assert terms("default").bounds.limit == 25
    assert terms("default", limit=2).bounds.limit == 1


def test_a_class_that_is_not_the_tenants_is_forbidden() -> None:
    with pytest.raises(ApiError, match="coding, chat") as caught:
        terms(wanted="batch")
    assert (caught.value.status, caught.value.code) == (403, "class_not_allowed")


def test_without_a_policy_there_are_no_classes() -> None:
    found = terms("default", asked=Slo(30), policy=None, limit=7)
    assert (found.slo, found.tier, found.weight, found.bounds.limit) == (Slo(30), 2, 1.0, 7)
    with pytest.raises(ApiError, match="without a policy"):
        terms("default", "chat", policy=None)


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


BODY, OURS, LLMD = {"tpot_ms": 31, "ttft_ms": 310}, ("x-slo-", 32), ("x-llm-d-slo-", 33)


@pytest.mark.parametrize(
    ("tier", "service_class", "body", "headers", "expected"),
    [  # class, tpot_ms, ttft_ms, service_tier of the answer
        (None, None, None, (), ("chat", 50, None, None)),
        ("auto", None, None, (), ("chat", 50, None, "default")),
        ("default", None, None, (), ("chat", 50, None, "default")),
        ("priority", None, None, (), ("coding", 60, 900, "priority")),
        ("priority", "coding", None, (), ("coding", 60, 900, "priority")),
        ("priority", "chat", None, (), ("chat", 50, None, "default")),
        ("priority", None, None, (LLMD,), ("coding", 33, 330, "priority")),
        ("priority", None, None, (OURS, LLMD), ("coding", 32, 320, "priority")),
        ("priority", None, BODY, (OURS, LLMD), ("coding", 31, 310, "priority")),
        ("priority", "chat", BODY, (OURS, LLMD), ("chat", 31, 310, "default")),
        (None, None, {"tpot_ms": 31}, (OURS,), ("chat", 31, 320, None)),
        (None, None, {"ttft_ms": 310}, (LLMD,), ("chat", 33, 310, None)),
        (None, "coding", {"tpot_ms": 31}, (), ("coding", 31, 900, None)),
    ],
)
async def test_the_body_goes_before_headers_and_these_before_the_tiers_class_and_the_default(
    served: Served, tier: str | None, service_class: str | None, body: Any, headers: Any, expected: Any
) -> None:
    served.verifier.about.update(zero_load_ms=40.0)
    await served.verifier.beat()
    await served.until(lambda: served.gateway._fleet.zero_load_ms == 40.0)
    asked = {**(body or {}), **({"class": service_class} if service_class else {})}
    sent = {f"{prefix}tpot-ms": str(value) for prefix, value in headers}
    sent |= {f"{prefix}ttft-ms": str(10 * value) for prefix, value in headers}
    request = {"adaserve": {"slo": asked}, **({"service_tier": tier} if tier else {})}
    status, answer, told = await ask(served, {"x-adaserve-tenant": "acme", **sent}, **request)
    assert status == 200
    slo = answer["metrics"]["slo"]
    found = (slo["class"], slo["tpot_target_ms"], slo["ttft_target_ms"], answer.get("service_tier"))
    assert found == expected
    targets = [f"{name}={ms}" for name, ms in zip(("tpot_ms", "ttft_ms"), expected[1:3], strict=True) if ms]
    assert told["x-adaserve-slo"] == ", ".join([f"class={expected[0]}", *targets])


async def test_every_chunk_tells_the_service_tier(served: Served) -> None:
    body = {"prompt": "x", "service_tier": "flex", "stream": True, "stream_options": {"include_usage": True}}
    answer = await served.http.post("/v1/completions", json=body)
    chunks = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    assert len(chunks) > 2
    assert {chunk["service_tier"] for chunk in chunks} == {"flex"}
    assert answer.headers["x-adaserve-slo"] == "class=batch"
    again = await served.http.get(f"/v1/streams/{answer.headers['x-adaserve-stream']}")
    assert '"service_tier":"flex"' in again.text
    assert again.headers["x-adaserve-slo"] == "class=batch"


@pytest.mark.parametrize(
    ("tenant", "tier", "expected"),
    [
        ("acme", "flex", (403, "class_not_allowed", "batch")),
        ("default", "priority", (403, "class_not_allowed", "coding")),
        ("acme", "scale", (400, "unsupported_parameter", "'scale' is no tier of this server; the policy has")),
        ("acme", "gold", (400, "invalid_value", "gold")),
    ],
)
async def test_a_service_tier_that_cannot_be_had(served: Served, tenant: str, tier: str, expected: Any) -> None:
    status, answer, _ = await ask(served, {"x-adaserve-tenant": tenant}, service_tier=tier)
    assert (status, answer["error"]["code"], answer["error"]["param"]) == (*expected[:2], "service_tier")
    assert expected[2] in answer["error"]["message"]


def test_without_a_policy_only_the_neutral_service_tiers_are_known() -> None:
    found = [terms("default", service_tier=tier, policy=None).service_tier for tier in (None, "auto", "default")]
    assert found == ["", "default", "default"]
    with pytest.raises(ApiError, match="none without a policy") as caught:
        terms("default", service_tier="flex", policy=None)
    assert (caught.value.status, caught.value.code) == (400, "unsupported_parameter")


async def test_what_the_policy_cuts_down_is_told(served: Served) -> None:
    acme = {"x-adaserve-tenant": "acme"}
    _, answer, headers = await ask(served, acme, adaserve={"slo": {"tpot_ms": 5}}, max_tokens=4)
    assert headers["x-adaserve-clamped"] == "tpot_ms=5->20"
    slo = answer["metrics"]["slo"]
    assert (slo["tpot_target_ms"], slo["tpot_raised_from_ms"]) == (20, 5)
    _, answer, headers = await ask(served, acme, max_tokens=9)
    assert headers["x-adaserve-clamped"] == "max_tokens=9->7"
    assert served.verifier.requests[-1].max_tokens == 7
    assert answer["metrics"]["slo"]["tpot_raised_from_ms"] is None
    status, _, headers = await ask(served, acme, max_tokens=9, min_tokens=8)
    assert (status, headers["x-adaserve-clamped"]) == (200, "max_tokens=9->7")
    assert (served.verifier.requests[-1].max_tokens, served.verifier.requests[-1].min_tokens) == (7, 7)
    status, answer, _ = await ask(served, acme, max_tokens=9, min_tokens=10)
    assert (status, answer["error"]["message"]) == (400, "min_tokens: 10 is more than max_tokens 9")
    _, _, headers = await ask(served, acme)
    assert "x-adaserve-clamped" not in headers
    assert served.verifier.requests[-1].max_tokens == 7
    again = await served.http.get(f"/v1/streams/{served.verifier.requests[1].request}", headers=acme)
    assert again.headers["x-adaserve-clamped"] == "max_tokens=9->7"


@pytest.mark.parametrize(
    ("tenant", "asked", "threshold"),
    [("default", None, 0), ("default", "exact", 0), ("default", "typical", 0.3), ("acme", "exact", 0)],
)
async def test_typical_acceptance_is_had_on_request_only_and_told(
    served: Served, tenant: str, asked: str | None, threshold: float
) -> None:
    body = {"adaserve": {"acceptance": asked}} if asked else {}
    status, answer, headers = await ask(served, {"x-adaserve-tenant": tenant}, **body)
    assert status == 200
    assert served.verifier.requests[-1].typical == threshold
    assert answer["metrics"]["acceptance"] == ("typical" if threshold else "exact")
    assert headers.get("x-adaserve-acceptance") == ("typical" if threshold else None)


async def test_typical_acceptance_is_forbidden_where_the_policy_does_not_allow_it(served: Served) -> None:
    body = {"adaserve": {"acceptance": "typical"}}
    status, answer, _ = await ask(served, {"x-adaserve-tenant": "acme"}, **body)
    error = answer["error"]
    assert (status, error["code"], error["param"]) == (403, "acceptance_not_allowed", "adaserve.acceptance")
    with pytest.raises(ApiError, match="not allowed") as caught:
        agree(None, "default", Wish(acceptance="typical"), at=AT, zero_load_ms=1.0, limit=1)
    assert caught.value.status == 403


def test_a_schedule_that_is_on_changes_targets_and_tier() -> None:
    always = {"class": "chat", "cron": "* 12 * * 5", "tpot_ms": 33, "tier": 0}
    mine = {"class": "chat", "tenant": "acme", "cron": "* 12 * * 5", "ttft_ms": 99}
    policy = Policy.model_validate({**CONTENT, "schedules": [always, mine]})
    found = terms(policy=policy)
    assert (found.slo, found.tier) == (Slo(33, 99, "chat"), 0)
    later = agree(policy, "acme", Wish(), at=AT + timedelta(hours=1), zero_load_ms=1.0, limit=100)
    assert (later.slo, later.tier) == (Slo(50, math.inf, "chat"), 1)


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
