"""The spans of a request, in the client's trace, with nothing of its content in them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from shared import signals
from shared.policy import Policy
from tests.otlp import Collector
from tests.otlp import collector as run_collector
from tests.unit.services.gateway.conftest import Served
from tests.unit.services.gateway.fake_verifier import Reply

TRACE, PARENT = "a" * 32, "b" * 16


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with run_collector() as received:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", received.endpoint)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        yield received


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_has_its_spans_in_the_clients_trace(
    collector: Collector, served: Served, stream: bool
) -> None:
    body = {"prompt": "canary", "stream": stream, "adaserve": {"slo": {"class": "watched"}}}
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "x-adaserve-tenant": "acme"}
    (await served.http.post("/v1/completions", json=body, headers=headers)).raise_for_status()
    await served.until(lambda: len(collector.spans) == 2)
    spans = {span.name: span for span in collector.spans}
    request, deliver = spans[signals.GATEWAY_REQUEST], spans[signals.GATEWAY_DELIVER]
    assert (request.trace_id, request.parent_id) == (TRACE, PARENT)
    assert (deliver.trace_id, deliver.parent_id) == (TRACE, request.span_id)
    message = served.verifier.requests[0]
    assert served.verifier.traceparents == [f"00-{TRACE}-{request.span_id}-01"]
    assert request.attributes[signals.REQUEST_ID] == message.request
    assert request.attributes[signals.GEN_AI_INPUT_TOKENS] == len(message.prompt)
    assert "canary" not in repr(collector.spans)


POLICY = Policy.model_validate(
    {
        "classes": {
            "strict": {"ttft_ms": 0.001, "trace": 0.0},
            "kind": {"tpot_ms": 3_600_000.0, "trace": 0.0},
            "watched": {"tpot_ms": 3_600_000.0, "trace": 1.0},
        },
        "tenants": {"acme": {"classes": ["strict", "kind", "watched"], "default": "kind"}},
    }
)


@pytest.fixture
def policy() -> Policy:
    return POLICY


@pytest.fixture
def options() -> dict[str, Any]:
    return {"refuse_unreachable": False}


async def ask(served: Served, slo_class: str, **headers: str) -> httpx.Response:
    body = {"prompt": "canary", "adaserve": {"slo": {"class": slo_class}}}
    return await served.http.post("/v1/completions", json=body, headers={"x-adaserve-tenant": "acme", **headers})


async def test_a_missed_target_is_told_though_the_request_was_not_sampled(
    collector: Collector, served: Served
) -> None:
    (await ask(served, "strict")).raise_for_status()
    await served.until(lambda: len(collector.spans) == 4)
    assert served.verifier.traceparents[0] is not None
    assert served.verifier.traceparents[0].endswith("-00")
    spans = {span.name: span for span in collector.spans}
    root = spans.pop(signals.GATEWAY_REQUEST)
    assert root.parent_id == ""
    assert served.verifier.traceparents == [f"00-{root.trace_id}-{root.span_id}-00"]
    assert root.attributes[signals.AFTER_THE_FACT] is True
    assert root.attributes[signals.SLO_MET] is False
    assert root.attributes[signals.SLO_CLASS] == "strict"
    assert root.attributes[signals.SLO_TTFT_MS] == pytest.approx(0.001)
    assert root.attributes[signals.NUM_STEPS] == 4
    assert root.attributes[signals.QUEUE_MS] == 1.5
    assert spans.keys() == {signals.VERIFIER_QUEUE, signals.VERIFIER_PREFILL, signals.GATEWAY_DELIVER}
    assert {(span.trace_id, span.parent_id) for span in spans.values()} == {(root.trace_id, root.span_id)}
    queue, prefill = spans[signals.VERIFIER_QUEUE], spans[signals.VERIFIER_PREFILL]
    assert queue.start_ns <= queue.end_ns == prefill.start_ns <= prefill.end_ns
    assert "canary" not in repr(collector.spans)


async def test_a_failure_is_told_whatever_its_class(collector: Collector, served: Served) -> None:
    served.answers(Reply([[5]], finish="error", error="the server broke"))
    assert (await ask(served, "kind")).status_code == 500
    await served.until(lambda: len(collector.spans) >= 1)
    (root,) = [span for span in collector.spans if span.name == signals.GATEWAY_REQUEST]
    assert root.attributes[signals.SLO_MET] is False
    assert root.attributes[signals.ERROR_TYPE]


async def test_a_refusal_of_a_traced_request_says_which(collector: Collector, served: Served) -> None:
    body = {"prompt": "canary", "max_tokens": 10**6, "adaserve": {"slo": {"class": "watched"}}}
    answer = await served.http.post("/v1/completions", json=body, headers={"x-adaserve-tenant": "acme"})
    await served.until(lambda: len(collector.spans) == 1)
    about = collector.spans[0].attributes
    assert (about[signals.HTTP_STATUS], about[signals.SLO_CLASS]) == (answer.status_code, "watched")
    assert about[signals.ERROR_TYPE] == answer.json()["error"]["code"]


async def test_what_is_kept_is_not_sampled_and_the_class_decides(collector: Collector, served: Served) -> None:
    (await ask(served, "kind", traceparent=f"00-{TRACE}-{PARENT}-01")).raise_for_status()
    (await ask(served, "watched")).raise_for_status()
    await served.until(lambda: len(collector.spans) == 2)
    assert {span.attributes.get(signals.SLO_CLASS) for span in collector.spans} == {"watched", None}


@pytest.mark.parametrize("options", [{"refuse_unreachable": False, "trace_missed": False}])
async def test_an_operator_can_do_without_missed_targets(
    collector: Collector, served: Served, options: dict[str, Any]
) -> None:
    (await ask(served, "strict")).raise_for_status()
    (await ask(served, "watched")).raise_for_status()
    await served.until(lambda: len(collector.spans) == 2)
    assert not [span for span in collector.spans if span.attributes.get(signals.SLO_CLASS) == "strict"]


@pytest.mark.parametrize("options", [{"refuse_unreachable": False, "trust_traceparent": True}])
async def test_a_trusted_client_has_its_trace(
    collector: Collector, served: Served, options: dict[str, Any]
) -> None:
    (await ask(served, "kind", traceparent=f"00-{TRACE}-{PARENT}-01")).raise_for_status()
    await served.until(lambda: len(collector.spans) == 2)
    assert {span.trace_id for span in collector.spans} == {TRACE}


async def test_whoever_comes_back_is_sampled_only_where_the_request_is(
    collector: Collector, served: Served
) -> None:
    client = f"00-{TRACE}-{PARENT}-01"
    for headers in ({}, {"traceparent": client}, {}, {"traceparent": client}):
        (await ask(served, "kind", **{"idempotency-key": "k", **headers})).raise_for_status()
    for _ in range(2):
        (await ask(served, "watched", **{"idempotency-key": "w"})).raise_for_status()
    await served.until(lambda: len(collector.spans) == 4)
    roots = [span for span in collector.spans if span.name == signals.GATEWAY_REQUEST]
    first, again = sorted(roots, key=lambda span: len(span.links))
    assert {span.attributes[signals.SLO_CLASS] for span in roots} == {"watched"}
    assert (first.links, again.links) == ((), ((first.trace_id, first.span_id),))
    assert len(served.verifier.requests) == 2


@pytest.mark.parametrize("options", [{"refuse_unreachable": False, "trust_traceparent": True}])
async def test_a_trusted_client_has_its_trace_also_when_it_comes_back(
    collector: Collector, served: Served, options: dict[str, Any]
) -> None:
    for headers in ({}, {"traceparent": f"00-{TRACE}-{PARENT}-01"}):
        (await ask(served, "kind", **{"idempotency-key": "k", **headers})).raise_for_status()
    await served.until(lambda: len(collector.spans) == 2)
    assert {span.trace_id for span in collector.spans} == {TRACE}


@pytest.mark.parametrize("options", [{"refuse_unreachable": False, "trace_missed_per_s": 0.001}])
async def test_a_tenant_that_misses_every_time_does_not_fill_the_receiver(
    collector: Collector, served: Served, options: dict[str, Any]
) -> None:
    for _ in range(3):
        (await ask(served, "strict")).raise_for_status()
    await ask(served, "watched")
    await served.until(lambda: len(collector.spans) == 6)
    classes = [span.attributes.get(signals.SLO_CLASS) for span in collector.spans]
    assert (classes.count("strict"), classes.count("watched")) == (1, 1)
    metrics = (await served.http.get("/metrics")).text
    assert "adaserve_traces_left_out_total 2.0" in metrics
