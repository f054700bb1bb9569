"""What the verifier tells of sampled requests, in a ring of table models; the rest is told in tests/e2e."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from shared import signals
from shared.telemetry import Telemetry, configure
from tests.otlp import Collector, ReceivedSpan
from tests.requests import request
from tests.span_table import complaints

SAMPLED = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"
NUM_TOKENS = 9


@pytest.fixture
def exporting(otlp: Collector) -> Iterator[Telemetry]:
    with configure("verifier", "v.1") as exporting:
        yield exporting


def served(otlp: Collector, exporting: Telemetry, ring: Any) -> list[ReceivedSpan]:
    ring.run()
    exporting.shutdown()
    return otlp.spans


def ask(number: int = 1, **changes: Any) -> Any:
    prompt = list(range(11))
    return request(number, prompt=prompt, max_tokens=NUM_TOKENS, temperature=0.0, ignore_eos=True, **changes)


def committed(spans: list[ReceivedSpan]) -> int:
    iterations = [span for span in spans if span.name == signals.VERIFIER_ITERATION]
    return sum(span.attributes.get(signals.COMMITTED_TOKENS, 0) for span in iterations)


def test_steps_without_speculation_are_iterations_too(otlp: Collector, exporting: Telemetry, build: Any) -> None:
    ring = build(telemetry=exporting)
    ring.submit(ask(speculation=False), traceparent=SAMPLED)
    spans = served(otlp, exporting, ring)
    iterations = [span for span in spans if span.name == signals.VERIFIER_ITERATION]
    assert {span.attributes[signals.OUTCOME] for span in iterations} == {"plain"}
    assert committed(spans) == NUM_TOKENS - 1
    commits = [span for span in spans if span.name == signals.VERIFIER_COMMIT]
    assert {span.parent_id for span in commits} == {span.span_id for span in iterations}
    assert signals.VERIFIER_VERIFY not in {span.name for span in spans}


def test_a_silent_ring_is_told_as_missed(otlp: Collector, exporting: Telemetry, build: Any) -> None:
    ring = build(telemetry=exporting)
    ring.bus.is_silent = True
    ring.submit(ask(), traceparent=SAMPLED)
    spans = served(otlp, exporting, ring)
    outcomes = {span.attributes.get(signals.OUTCOME) for span in spans if span.name == signals.VERIFIER_ITERATION}
    assert "missed" in outcomes
    assert "speculative" not in outcomes
    assert committed(spans) == NUM_TOKENS - 1


def test_every_span_of_a_speculated_request_is_as_the_table_says(
    otlp: Collector, exporting: Telemetry, build: Any
) -> None:
    ring = build(telemetry=exporting, noise=0.3)
    ring.submit(ask(tpot_ms=20.0), traceparent=SAMPLED)
    spans = served(otlp, exporting, ring)
    mine = [span for span in spans if span.trace_id == "ab" * 16]
    plain = [span for span in mine if span.attributes.get(signals.OUTCOME) != "void"]
    assert [words for span in plain for words in complaints(span.name, span.attributes)] == []
    verified = [span for span in mine if span.name == signals.VERIFIER_VERIFY]
    assert sum(span.attributes[signals.NUM_ACCEPTED] for span in verified) > 0
    chunks = [
        span.attributes[signals.CHUNK_TOKENS] for span in mine if span.name == signals.VERIFIER_PREFILL_CHUNK
    ]
    assert chunks == [8, 3]  # the verifier's chunk, and the rest
    steps = [span for span in spans if span.name == signals.VERIFIER_STEP]
    assert {link for span in steps for link in span.links} == {("ab" * 16, "cd" * 8)}


def test_nobody_elses_work_is_told(otlp: Collector, exporting: Telemetry, build: Any) -> None:
    ring = build(telemetry=exporting)
    ring.submit(ask(1), traceparent=SAMPLED[:-2] + "00")
    ring.submit(ask(2))
    assert served(otlp, exporting, ring) == []
