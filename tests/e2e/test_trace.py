"""One request, one trace: spans of all four services in the right order, and none of anybody else's."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from bench.local import LocalStack
from bench.prompts import source_prompts
from shared import signals
from tests.otlp import Collector, ReceivedSpan

EDGES = [
    (signals.GATEWAY_REQUEST, signals.VERIFIER_QUEUE),
    (signals.GATEWAY_REQUEST, signals.VERIFIER_PREFILL),
    (signals.GATEWAY_REQUEST, signals.VERIFIER_ITERATION),
    (signals.VERIFIER_ITERATION, signals.DRAFTER_DRAFT),
    (signals.DRAFTER_DRAFT, signals.SELECTOR_SELECT),
    (signals.SELECTOR_SELECT, signals.VERIFIER_VERIFY),
]
SERVICE_OF = {"gateway": "gateway", "drafter": "drafter", "selector": "selector", "verifier": "verifier"}


def in_trace(spans: list[ReceivedSpan], trace_id: str) -> list[ReceivedSpan]:
    return [span for span in spans if span.trace_id == trace_id]


def has_all(spans: list[ReceivedSpan], trace_id: str) -> bool:
    """Every kind of span, and no child whose parent is still on its way."""
    mine = in_trace(spans, trace_id)
    names, ids = {span.name for span in mine}, {span.span_id for span in mine}
    return {name for edge in EDGES for name in edge} <= names and all(
        span.parent_id in ids for span in mine if span.name != signals.GATEWAY_REQUEST
    )


def complete(stack: LocalStack, prompts: list[str]) -> list[str]:
    with ThreadPoolExecutor(len(prompts)) as pool:
        bodies = [{"prompt": prompt, "max_tokens": 24, "temperature": 0, "ignore_eos": True} for prompt in prompts]
        return [answer["id"].rpartition("-")[2] for answer in pool.map(stack.complete, bodies)]


def trace_of(spans: list[ReceivedSpan], request: str) -> str | None:
    roots = [span for span in spans if span.attributes.get(signals.REQUEST_ID) == request]
    return roots[0].trace_id if roots else None


def received(traces: Collector, request: str) -> list[ReceivedSpan]:
    def is_complete(spans: list[ReceivedSpan]) -> bool:
        trace_id = trace_of(spans, request)
        return trace_id is not None and has_all(spans, trace_id)

    spans = traces.wait_for(is_complete)
    return in_trace(spans, trace_of(spans, request) or "")


def check_order(spans: list[ReceivedSpan]) -> None:
    by_id = {span.span_id: span for span in spans}
    for parent, child in EDGES:
        found = [span for span in spans if span.name == child]
        assert found, f"no span {child}"
        for span in found:
            assert by_id[span.parent_id].name == parent, f"{child} is not below {parent}"
    for span in spans:
        assert span.service == SERVICE_OF[span.name.partition(".")[0]]


def test_spans_of_all_four_services_form_one_tree(stack: LocalStack, traces: Collector) -> None:
    (request,) = complete(stack, source_prompts(1, seed=21))
    spans = received(traces, request)
    check_order(spans)
    iterations = [span for span in spans if span.name == signals.VERIFIER_ITERATION]
    verified = [span for span in spans if span.name == signals.VERIFIER_VERIFY]
    assert sum(span.attributes.get(signals.COMMITTED_TOKENS, 0) for span in verified) <= 24
    for span in verified:
        assert any(i.start_ns <= span.start_ns and span.end_ns <= i.end_ns for i in iterations)


def test_two_requests_in_one_batch_keep_separate_traces(stack: LocalStack, traces: Collector) -> None:
    requests = complete(stack, source_prompts(2, seed=22))
    first, second = (received(traces, request) for request in requests)
    assert {span.trace_id for span in first}.isdisjoint({span.trace_id for span in second})
    for spans in (first, second):
        check_order(spans)
    batches = [
        span
        for span in traces.spans
        if span.name == signals.DRAFTER_BATCH
        and {trace for trace, _ in span.links} >= {first[0].trace_id, second[0].trace_id}
    ]
    assert batches, "no drafter batch is linked to both requests"
