"""A short run of the campaign, and that its parts do what they are there for."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from services.gateway.app import VERSION
from services.gateway.description import examples
from services.gateway.description.document import document
from shared.embedded_redis import EmbeddedRedis
from tests.conformance import campaign, servable
from tests.conformance.described import Described
from tests.faults.cell import cell

DESCRIBED = Described(document(VERSION))
STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "x-request-id": "a",
    "x-adaserve-stream": "0" * 32,
}


@pytest.mark.timeout(300)
def test_a_short_campaign_finds_nothing() -> None:
    with (
        campaign.guarded() as guard,
        EmbeddedRedis() as redis,
        cell(redis.url, num_verifiers=1, options=guard.options) as running,
    ):
        paths = ("/v1/completions", "/v1/models/{model}", "/admin/mode")
        found = campaign.run(running.stack.url, guard.key, 10, 3, phases=("examples", "fuzzing"), paths=paths)
    assert found.failures == []
    assert found.num_cases >= 10
    assert found.statuses["200"] > 0
    assert found.statuses["400"] > 0


def test_a_gateway_that_does_not_answer_is_a_failure() -> None:
    found = campaign.run("http://127.0.0.1:9", "sk-none", 1, 1)
    assert len(found.failures) == 1


@pytest.mark.parametrize(
    "broken",
    [
        examples.CHAT_EVENTS.replace("data: [DONE]\n\n", ""),
        examples.CHAT_EVENTS.replace('"index":0', '"index":-1'),
        examples.CHAT_EVENTS.replace("chatcmpl-", "cmpl-"),
        examples.CHAT_EVENTS.replace('"delta":', '"delta2":'),
        "event: error\ndata: {}\n\n",
        "event: other\ndata: [DONE]\n\n",
    ],
)
def test_a_stream_that_is_not_as_described_is_told(broken: str) -> None:
    whole = httpx.Response(200, headers=STREAM_HEADERS, text=examples.CHAT_EVENTS)
    DESCRIBED.check_answer("post", "/v1/chat/completions", whole)
    with pytest.raises(AssertionError):
        DESCRIBED.check_answer(
            "post", "/v1/chat/completions", httpx.Response(200, headers=STREAM_HEADERS, text=broken)
        )


@pytest.mark.parametrize(
    ("body", "changed"),
    [
        ({"max_tokens": 1 << 20, "n": 16}, {"max_tokens": servable.MAX_TOKENS, "n": servable.MAX_CHOICES}),
        ({"max_tokens": (1 << 20) + 1, "n": 17}, None),
        ({"max_tokens": 0, "n": True, "min_tokens": "9"}, None),
        ({"model": "x"}, {"model": "default"}),
        ({"model": "x" * 257}, None),
        ({"prompt": [[5, 1005]]}, {"prompt": [[5, 5]]}),
        ({"prompt": [-1, 2**31, "a"]}, None),
        ({"adaserve": {"slo": {"tpot_ms": 1e-9}}}, {"adaserve": {"slo": {"tpot_ms": servable.SERVABLE_MS}}}),
        ({"adaserve": {"slo": {"tpot_ms": 0}, "deadline_ms": -1}}, None),
        ({"adaserve": [], "prompt": {}}, None),
    ],
)
def test_only_values_within_their_bounds_are_exchanged(
    body: dict[str, Any], changed: dict[str, Any] | None
) -> None:
    before = json.loads(json.dumps(body))
    servable.change_body(body)
    assert body == (before if changed is None else changed)


@pytest.mark.parametrize(("given", "sent"), [("3f9a", servable.NOBODYS_KEY), ("3f9", "3f9"), (7, 7)])
def test_the_campaigns_own_key_is_left_alone(given: Any, sent: Any) -> None:
    parameters = {"key_id": given, "stream": "3f9a"}
    servable.change_path(parameters, "sk-3f9a-secret")
    assert parameters == {"key_id": sent, "stream": "3f9a"}


def test_headers_are_exchanged_alike() -> None:
    headers = {"X-SLO-TPOT-MS": "0.1", "x-slo-ttft-ms": "-1", "Idempotency-Key": "k", "x-llm-d-slo-tpot-ms": "inf"}
    headers["X-AdaServe-Tenant"] = "anybody"
    servable.change_headers(headers, "-1")
    assert headers == {
        "X-SLO-TPOT-MS": "60000.0",
        "x-slo-ttft-ms": "-1",
        "Idempotency-Key": "k-1",
        "x-llm-d-slo-tpot-ms": "inf",
        "X-AdaServe-Tenant": servable.TENANT,
    }
