"""/admin/live on a served gateway."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import numpy as np
import pytest

from services.gateway.app import VERSION
from services.gateway.description.document import document
from shared.errors import BusUnavailable
from shared.inspect_store import tell_live
from shared.inspection import MAX_LIVE
from shared.messages import request_ids
from shared.policy import Policy
from tests.conformance.described import Described
from tests.unit.services.gateway.conftest import Served
from tests.unit.services.gateway.fake_verifier import Reply
from tests.unit.shared.test_messages import example_live_verifier

DESCRIBED = Described(document(VERSION))


@pytest.fixture
def policy() -> Policy | None:
    tenant = {"classes": ["chat", "batch"], "default": "chat"}
    classes: dict[str, Any] = {"chat": {"tpot_ms": 5000, "objective": 0.9}, "batch": {"tpot_ms": 4000}}
    classes["swift"] = {"tpot": "1.5x"}
    return Policy.model_validate({"classes": classes, "tenants": {"default": tenant}})


async def look(served: Served) -> dict[str, Any]:
    answer = await served.http.get("/admin/live")
    assert answer.status_code == 200, answer.text
    DESCRIBED.check_answer("get", "/admin/live", answer)
    live: dict[str, Any] = answer.json()
    return live


async def test_a_look_asks_the_verifiers_and_shows_what_they_tell(served: Served) -> None:
    name = served.verifier.name
    [untold] = (await look(served))["verifiers"]
    assert (untold["name"], untold["running"], untold["acceptance_by_depth"]) == (name, None, [])
    assert 0 < served.redis.ttl(served.keys.watched) <= 10
    served.redis.execute_command(*tell_live(served.keys, name, example_live_verifier()))
    live = await look(served)
    [told] = live["verifiers"]
    assert (told["running"], told["kv_used"], told["kv_total"]) == (1, 3, 64)
    assert told["acceptance_by_depth"][3] == {"depth": 4, "accepted": 3, "rejected": 1}
    [one] = live["requests"]
    assert (one["tenant"], one["class"], one["verifier"], one["state"]) == ("acme", "chatbot", name, "decoding")
    assert (one["tpot_ms"], one["slack_ms"]) == (11.5, None)
    assert live["cell"] == served.keys.cell
    assert live["gateways"] == [{"name": live["gateway"]}]
    assert (live["drafters"], live["selectors"]) == ([], [])
    served.redis.set(served.keys.live(name), b"rubbish")
    assert (await look(served))["verifiers"] == [untold]


async def test_of_many_requests_those_with_the_least_slack_are_shown(served: Served) -> None:
    one = example_live_verifier()
    slack = np.arange(MAX_LIVE, 0, -1, dtype=np.float64)
    many = dataclasses.replace(
        one,
        request=request_ids([f"{number:032x}" for number in range(MAX_LIVE)]),
        tenant=one.tenant * MAX_LIVE,
        slo_class=one.slo_class * MAX_LIVE,
        slack_ms=slack,
        **{
            name: getattr(one, name).repeat(MAX_LIVE)
            for name in ("state", "position", "output_tokens", "tpot_ms", "tpot_target_ms")
        },
    )
    served.redis.execute_command(*tell_live(served.keys, served.verifier.name, many))
    shown = (await look(served))["requests"]
    assert [request["slack_ms"] for request in shown] == sorted(slack.tolist())


async def test_classes_show_what_has_ended_here(served: Served) -> None:
    await served.http.post("/v1/completions", json={"prompt": "hello"})
    missed = {"slo": {"class": "batch", "ttft_ms": 0.001}}
    await served.http.post("/v1/completions", json={"prompt": "hello", "adaserve": missed})
    chat, batch, swift = (await look(served))["classes"]
    assert (chat["name"], chat["objective"], chat["tpot_ms"]) == ("chat", 0.9, 5000.0)
    assert (chat["requests"], chat["met"], chat["attainment"]) == (1, 1, 1.0)
    assert chat["goodput_tokens_per_s"] > 0
    assert (batch["requests"], batch["met"], batch["attainment"]) == (1, 0, 0.0)
    assert (batch["objective"], batch["goodput_tokens_per_s"]) == (None, 0.0)
    assert swift["tpot_ms"] == 1.5 * served.verifier.about["zero_load_ms"]


async def test_a_gateway_that_is_being_stopped_says_so(served: Served) -> None:
    assert not (await look(served))["draining"]
    served.gateway.drain()
    assert (await look(served))["draining"]


async def test_what_waits_is_counted_by_tier(served: Served) -> None:
    await served.verifier.pause()
    served.answers(Reply([[5]]))
    bodies = [{"prompt": "hello", "adaserve": {"slo": {"class": "chat"}}} for _ in range(10)]
    asking = [asyncio.create_task(served.http.post("/v1/completions", json=body)) for body in bodies]
    await served.until(lambda: served.redis.zcard(served.keys.waiting(2)) == 2)
    await asyncio.sleep(0.02)
    tiers = (await look(served))["queue"]["tiers"]
    assert [tier["waiting"] for tier in tiers] == [0, 0, 10, 0]
    assert tiers[2]["oldest_s"] > 0
    assert tiers[0]["oldest_s"] == 0
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)


async def test_without_redis_it_is_a_503(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(_: Any) -> Any:
        raise BusUnavailable("away")

    monkeypatch.setattr(served.gateway._bus, "read", away)
    answer = await served.http.get("/admin/live")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
    DESCRIBED.check_answer("get", "/admin/live", answer)
