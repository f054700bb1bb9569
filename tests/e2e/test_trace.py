"""One request, one trace: spans of all four services in the right order, and none of anybody else's."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from bench.local import LocalStack
from bench.prompts import source_prompts
from shared import signals
from tests.otlp import Collector, ReceivedSpan
from tests.span_table import complaints

EDGES = [
    (signals.GATEWAY_REQUEST, signals.VERIFIER_QUEUE),
    (signals.GATEWAY_REQUEST, signals.VERIFIER_PREFILL),
    (signals.VERIFIER_PREFILL, signals.VERIFIER_PREFILL_CHUNK),
    (signals.GATEWAY_REQUEST, signals.VERIFIER_ITERATION),
    (signals.VERIFIER_ITERATION, signals.DRAFTER_DRAFT),
    (signals.DRAFTER_DRAFT, signals.SELECTOR_SELECT),
    (signals.SELECTOR_SELECT, signals.VERIFIER_VERIFY),
    (signals.VERIFIER_ITERATION, signals.VERIFIER_COMMIT),
    (signals.GATEWAY_REQUEST, signals.GATEWAY_DELIVER),
]
TARGET_MS = 400.0
NUM_TOKENS = 24
SERVICE_OF = {"gateway": "gateway", "drafter": "drafter", "selector": "selector", "verifier": "verifier"}


def in_trace(spans: list[ReceivedSpan], trace_id: str) -> list[ReceivedSpan]:
    return [span for span in spans if span.trace_id == trace_id]


def has_all(spans: list[ReceivedSpan], trace_id: str) -> bool:
    """Every kind of span, no child whose parent is on its way, and iterations for all tokens but the first."""
    mine = in_trace(spans, trace_id)
    names, ids = {span.name for span in mine}, {span.span_id for span in mine}
    committed = sum(span.attributes[signals.COMMITTED_TOKENS] for span in iterations(mine))
    return (
        {name for edge in EDGES for name in edge} <= names
        and committed == NUM_TOKENS - 1
        and all(span.parent_id in ids for span in mine if span.name != signals.GATEWAY_REQUEST)
    )


def iterations(spans: list[ReceivedSpan]) -> list[ReceivedSpan]:
    """Those that brought tokens."""
    mine = [span for span in spans if span.name == signals.VERIFIER_ITERATION]
    return [span for span in mine if span.attributes.get(signals.OUTCOME) not in (None, "void")]


def complete(stack: LocalStack, prompts: list[str]) -> list[str]:
    with ThreadPoolExecutor(len(prompts)) as pool:
        bodies = [
            {"prompt": prompt, "max_tokens": NUM_TOKENS, "temperature": 0, "ignore_eos": True}
            for prompt in prompts
        ]
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


def stream(stack: LocalStack, prompt: str) -> str:
    """One streamed completion with a target; the id of its request."""
    body = {
        "model": "default",
        "prompt": prompt,
        "max_tokens": NUM_TOKENS,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "adaserve": {"slo": {"tpot_ms": TARGET_MS}},
    }
    with httpx.stream("POST", f"{stack.url}/v1/completions", json=body, timeout=60) as response:
        chunks = [json.loads(line[6:]) for line in response.iter_lines() if line.startswith("data: {")]
    found: str = chunks[0]["id"].rpartition("-")[2]
    return found


def test_spans_of_all_four_services_form_one_tree_that_says_why(stack: LocalStack, traces: Collector) -> None:
    prompt = source_prompts(1, seed=21)[0]
    request = stream(stack, prompt)
    spans = received(traces, request)
    check_order(spans)
    told = [span for span in spans if span.name != signals.VERIFIER_ITERATION] + iterations(spans)
    assert [words for span in told for words in complaints(span.name, span.attributes)] == []
    (root,) = [span for span in spans if span.name == signals.GATEWAY_REQUEST]
    assert root.attributes[signals.SLO_TPOT_MS] == TARGET_MS
    assert root.attributes[signals.GEN_AI_OUTPUT_TOKENS] == NUM_TOKENS
    assert root.attributes[signals.SLO_MET] == (root.attributes[signals.TPOT_MS] <= TARGET_MS)
    chunks = [span for span in spans if span.name == signals.VERIFIER_PREFILL_CHUNK]
    (prefill,) = [span for span in spans if span.name == signals.VERIFIER_PREFILL]
    about = prefill.attributes
    fed = about[signals.GEN_AI_INPUT_TOKENS] - about[signals.GEN_AI_CACHED_TOKENS]
    assert sum(span.attributes[signals.CHUNK_TOKENS] for span in chunks) == fed
    assert len(chunks) == about[signals.NUM_CHUNKS]
    for inner, outer in (
        (signals.VERIFIER_VERIFY, signals.VERIFIER_ITERATION),
        (signals.VERIFIER_COMMIT, signals.VERIFIER_ITERATION),
        (signals.VERIFIER_PREFILL_CHUNK, signals.VERIFIER_PREFILL),
    ):
        enclosing = [span for span in spans if span.name == outer]
        for span in (span for span in spans if span.name == inner):
            assert any(one.start_ns <= span.start_ns and span.end_ns <= one.end_ns for one in enclosing)
    assert prompt[:20].encode() not in b"".join(traces.bodies)


def test_the_spans_of_a_selection_add_up(stack: LocalStack, traces: Collector) -> None:
    spans = received(traces, stream(stack, source_prompts(1, seed=23)[0]))
    by_parent = {span.parent_id: span for span in spans if span.name == signals.VERIFIER_VERIFY}
    for span in (span for span in spans if span.name == signals.SELECTOR_SELECT):
        about = span.attributes
        by_phase = about[signals.NUM_SLO_NODES] + about[signals.NUM_THROUGHPUT_NODES]
        assert by_phase == about[signals.NUM_SELECTED] <= about[signals.NUM_NODES]
        assert about[signals.BUDGET_SHARE] == pytest.approx((1 + by_phase) / about[signals.BUDGET])
        if (verified := by_parent.get(span.span_id)) is not None:
            assert verified.attributes[signals.NUM_ACCEPTED] <= verified.attributes[signals.NUM_NODES] <= by_phase


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
    for name in (signals.DRAFTER_BATCH, signals.SELECTOR_BATCH, signals.VERIFIER_STEP):
        found = [span for span in traces.spans if span.name == name]
        assert found
        assert [words for span in found for words in complaints(name, span.attributes)] == []
