"""Spans made after the fact, whatever the clocks of others say."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from prometheus_client import CollectorRegistry

from services.gateway import request_span
from services.gateway.allowance import Allowance
from services.gateway.request_span import Moments
from shared import signals
from shared.spans import Tracer
from shared.telemetry import Telemetry, now_ns

NO_LIMIT = Allowance(1e9, lambda: 0.0)
AROUND_NS = st.integers(-10 * 10**9, 10 * 10**9)  # of now: clocks that have been set, forwards and backwards


class Kept:
    """In place of the SDK's processor."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)

    def shutdown(self) -> None:
        """Nothing waits."""


@pytest.fixture(scope="module")
def kept() -> Kept:
    return Kept()


@pytest.fixture(scope="module")
def telemetry(kept: Kept) -> Iterator[Telemetry]:
    tracer = Tracer(TracerProvider(shutdown_on_exit=False), kept)  # type: ignore[arg-type]
    with Telemetry(tracer, MeterProvider(shutdown_on_exit=False), CollectorRegistry()) as telemetry:
        yield telemetry


@given(
    queued=st.none() | AROUND_NS,
    arrived=st.none() | AROUND_NS,
    queue_ms=st.none() | st.floats(-5_000, 20_000),
)
def test_no_span_ends_before_it_starts_and_children_lie_within_the_request(
    kept: Kept, telemetry: Telemetry, queued: int | None, arrived: int | None, queue_ms: float | None
) -> None:
    kept.spans.clear()
    span = telemetry.request(None, signals.GATEWAY_REQUEST, share=0.0)
    moments = Moments(*(0 if offset is None else now_ns() + offset for offset in (queued, arrived)))
    stats = {} if queue_ms is None else {"queue_ms": queue_ms}
    request_span.keep(span, telemetry, stats, moments, NO_LIMIT)
    if moments.arrived_ns:
        request_span.delivered(span, telemetry, moments.arrived_ns, {})
    span.end()
    *children, root = [(one.name, one.start_time or 0, one.end_time or 0) for one in kept.spans]
    assert all(root[1] <= start <= end <= root[2] for _, start, end in children)
    spans = {name: (start, end) for name, start, end in children}
    if signals.VERIFIER_PREFILL in spans:
        assert spans[signals.VERIFIER_QUEUE][1] == spans[signals.VERIFIER_PREFILL][0]


def test_a_clock_set_back_makes_no_span_that_ends_before_it_starts(kept: Kept, telemetry: Telemetry) -> None:
    kept.spans.clear()
    telemetry.request(None, signals.GATEWAY_REQUEST, share=1.0).end(1)
    (span,) = kept.spans
    assert span.start_time == span.end_time


def test_beyond_the_allowance_requests_are_only_counted(kept: Kept, telemetry: Telemetry) -> None:
    kept.spans.clear()
    allowance, counted = Allowance(2, lambda: 0.0), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(telemetry, "add", lambda metric: counted.append(metric))
        for _ in range(5):
            span = telemetry.request(None, signals.GATEWAY_REQUEST, share=0.0)
            request_span.keep(span, telemetry, {}, Moments(), allowance)
            span.end()
    assert len(kept.spans) == 2
    assert counted == [signals.TRACES_LEFT_OUT] * 3


def test_a_sampled_request_uses_nothing_of_the_allowance(telemetry: Telemetry) -> None:
    allowance = Allowance(1, lambda: 0.0)
    request_span.keep(telemetry.request(None, "r", share=1.0), telemetry, {}, Moments(), allowance)
    assert allowance.take()
