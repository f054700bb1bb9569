"""Telemetry: one trace per request across processes, batches by links, metrics of bounded cardinality."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.verifier.watch import Reason
from shared import signals, telemetry
from shared.telemetry import Telemetry
from shared.tracing import span_context
from tests.otlp import Collector, ReceivedSpan, collector

CLIENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = CLIENT[:-2] + "00"


@pytest.fixture
def otlp(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with collector() as received:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", received.endpoint)
        yield received


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[Telemetry]:
    """No exporter configured."""
    for signal in ("", "TRACES_", "METRICS_"):
        monkeypatch.delenv(f"OTEL_EXPORTER_OTLP_{signal}ENDPOINT", raising=False)
    with telemetry.configure("verifier", "v.1") as quiet:
        yield quiet


def one_request(gateway: Telemetry, verifier: Telemetry, drafter: Telemetry, selector: Telemetry) -> str | None:
    """What the four services do for one request in one iteration; returns its gateway.request."""
    request = gateway.request(None, signals.GATEWAY_REQUEST)
    verifier.child(request.traceparent, signals.VERIFIER_QUEUE, 1, 2)
    prefill = verifier.open(request.traceparent, signals.VERIFIER_PREFILL, 2)
    verifier.child(prefill.traceparent, signals.VERIFIER_PREFILL_CHUNK, 2, 3)
    prefill.end(3)
    verifier.child(request.traceparent, signals.VERIFIER_MODE_SWITCH, 3, 3, {signals.MODE: "speculative"})
    iteration = verifier.open(request.traceparent, signals.VERIFIER_ITERATION, 3)
    drafted = drafter.child(iteration.traceparent, signals.DRAFTER_DRAFT, 4, 5, {signals.NUM_NODES: 12})
    selected = selector.child(drafted, signals.SELECTOR_SELECT, 5, 6)
    verifier.child(selected, signals.VERIFIER_VERIFY, 6, 7)
    verifier.child(iteration.traceparent, signals.VERIFIER_COMMIT, 7, 8)
    iteration.end(8, {signals.NUM_ACCEPTED: 3})
    gateway.child(request.traceparent, signals.GATEWAY_DELIVER, 8, 9)
    request.end()
    return request.traceparent


def of_trace(spans: list[ReceivedSpan], traceparent: str | None) -> dict[str, ReceivedSpan]:
    assert traceparent is not None
    return {span.name: span for span in spans if span.trace_id == traceparent.split("-")[1]}


def test_two_requests_have_one_complete_trace_each_with_all_services(otlp: Collector) -> None:
    services = [telemetry.configure(name, f"{name}.1") for name in ("gateway", "verifier", "drafter", "selector")]
    first, second = one_request(*services), one_request(*services)
    for service in services:
        service.shutdown()
    for request in (first, second):
        trace = of_trace(otlp.spans, request)
        assert trace.keys() == signals.PARENT_OF.keys()
        for child, parent in signals.PARENT_OF.items():
            assert trace[child].parent_id == (trace[parent].span_id if parent else "")
            assert trace[child].service == child.split(".")[0]
    assert of_trace(otlp.spans, first)[signals.VERIFIER_ITERATION].attributes[signals.NUM_ACCEPTED] == 3
    assert (
        of_trace(otlp.spans, first)[signals.DRAFTER_DRAFT].start_ns,
        of_trace(otlp.spans, first)[signals.DRAFTER_DRAFT].end_ns,
    ) == (4, 5)


def test_a_batch_is_its_own_root_linked_to_the_sampled_requests(otlp: Collector) -> None:
    with telemetry.configure("drafter", "d.1") as drafter:
        with drafter.batch(signals.DRAFTER_BATCH, [CLIENT, UNSAMPLED, None], {signals.NUM_ROWS: 3}) as batch:
            batch.set({signals.DEPTH: 4})
        with drafter.batch(signals.DRAFTER_BATCH, [None, UNSAMPLED]) as nothing:
            assert nothing.traceparent is None
    (span,) = otlp.spans
    assert batch.traceparent is not None
    assert span.trace_id == batch.traceparent.split("-")[1] != CLIENT.split("-")[1]
    assert (span.parent_id, span.links) == ("", ((CLIENT.split("-")[1], CLIENT.split("-")[2]),))
    assert span.attributes == {signals.NUM_ROWS: 3, signals.DEPTH: 4}


def test_an_exception_in_a_batch_goes_on_without_its_text(otlp: Collector) -> None:
    with telemetry.configure("drafter", "d.1") as drafter, pytest.raises(KeyError), drafter.batch("b", [CLIENT]):
        raise KeyError("a secret prompt")
    (span,) = otlp.spans
    assert "secret" not in repr(span)


def test_requests_outside_the_sample_are_not_recorded_but_propagate(
    otlp: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0")
    with telemetry.configure("gateway", "g.1") as gateway:
        request = gateway.request(None, signals.GATEWAY_REQUEST)
        assert request.traceparent is not None
        assert not telemetry.is_sampled(request.traceparent)
        assert gateway.child(request.traceparent, signals.VERIFIER_QUEUE, 1, 2) == request.traceparent
        request.end()
        with gateway.batch(signals.VERIFIER_STEP, [CLIENT]):
            """Recorded although the standard sampler says no: a request in it is."""
        kept = gateway.request(CLIENT, signals.GATEWAY_REQUEST)
        kept.end(error="timeout")
        kept.end()
    assert sorted(span.name for span in otlp.spans) == [signals.GATEWAY_REQUEST, signals.VERIFIER_STEP]


def test_metrics_are_sent_when_configured_and_no_thread_stays(otlp: Collector) -> None:
    with telemetry.configure("gateway", "g.1") as gateway:
        gateway.add(signals.STEPS, kind="bare")
    gateway.shutdown()
    assert "adaserve_steps" in otlp.metrics
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("Otel")]


def test_without_an_exporter_strings_pass_through(quiet: Telemetry) -> None:
    assert quiet.request(CLIENT, signals.GATEWAY_REQUEST).traceparent == CLIENT
    assert quiet.request(None, signals.GATEWAY_REQUEST).traceparent is None
    assert quiet.request("garbage", signals.GATEWAY_REQUEST).traceparent is None
    assert quiet.child(CLIENT, signals.VERIFIER_QUEUE, 1, 2) == CLIENT
    with quiet.batch(signals.VERIFIER_STEP, [CLIENT]) as batch:
        batch.set({signals.NUM_ROWS: 1})
    assert batch.traceparent is None


@given(st.text(max_size=60) | st.from_regex(r"0[0f]-[0-9a-f]{30,33}-[0-9a-f]{16}-0[0-3]", fullmatch=True))
def test_any_header_is_either_a_valid_span_or_nothing(header: str) -> None:
    remote = span_context(header)
    assert remote is None or (remote.is_valid and header.startswith("00-"))
    assert telemetry.is_sampled(header) == (remote is not None and remote.trace_flags.sampled)


def test_every_metric_shows_in_prometheus_text_with_its_description(quiet: Telemetry) -> None:
    for metric in signals.METRICS.values():
        labels = {name: values[0] for name, values in metric.labels.items()}
        match metric:
            case signals.Counter():
                quiet.add(metric, 2, **labels)
            case signals.Histogram():
                quiet.record(metric, 0.01, **labels)
            case signals.Gauge():
                quiet.set(metric, 3, **labels)
    text = quiet.prometheus().decode()
    for metric in signals.METRICS.values():
        assert f"# HELP {metric.exposed} " in text
        assert metric.description in text
    assert 'adaserve_step_time_seconds_bucket{le="0.01",part="forward"' in text


def test_a_service_says_what_it_is_and_its_counters_begin_at_zero(quiet: Telemetry) -> None:
    lines = quiet.prometheus().decode().splitlines()
    assert [line[:40] for line in lines if line.startswith("adaserve_info{")] == [
        'adaserve_info{service="verifier",version'
    ]
    assert 'adaserve_dead_letters_total{reason="poison"} 0.0' in lines
    assert 'adaserve_draft_edges_total{depth="8",outcome="rejected"} 0.0' in lines
    assert not [line for line in lines if line.startswith(("adaserve_http_requests", "adaserve_slo_requests"))]


def test_a_member_of_an_enumeration_is_counted_where_its_value_is(quiet: Telemetry) -> None:
    quiet.add(signals.MODE_SWITCHES, reason=Reason.COLLAPSE)
    quiet.add(signals.MODE_SWITCHES, reason="acceptance_collapse")
    lines = quiet.prometheus().decode().splitlines()
    assert [line for line in lines if 'reason="acceptance_collapse"' in line and "mode_switches" in line] == [
        'adaserve_mode_switches_total{reason="acceptance_collapse"} 2.0'
    ]


def test_no_counter_begins_with_more_than_a_few_series() -> None:
    counters = [metric for metric in signals.METRICS.values() if isinstance(metric, signals.Counter)]
    assert max(len(list(counter.zeros())) for counter in counters) == signals.MAX_ZEROS
    assert not list(signals.HTTP_REQUESTS.zeros())
    assert not list(signals.SLO_REQUESTS.zeros())
    assert len(list(signals.SLO_REQUESTS.zeros(slo_class=("chat",)))) == 2


def test_a_hop_is_the_time_between_two_clocks_and_never_negative(quiet: Telemetry) -> None:
    quiet.hop("draft", 1_000.0, 1_250.0)
    quiet.hop("draft", 1_000.0, 990.0)
    quiet.hop("draft", 0.0, 990.0)  # an entry without a time
    lines = quiet.prometheus().decode().splitlines()
    assert 'adaserve_hop_time_seconds_count{hop="draft"} 2.0' in lines
    assert 'adaserve_hop_time_seconds_sum{hop="draft"} 0.25' in lines


def test_label_values_are_bounded_and_label_names_checked(quiet: Telemetry) -> None:
    for value in (f"reason {number}" for number in range(100)):
        quiet.add(signals.RING_MISSES, reason=value)
    series = [line for line in quiet.prometheus().decode().splitlines() if line.startswith("adaserve_ring_misses")]
    assert len(series) == len(signals.RING_MISSES.labels["reason"]) + 1
    with pytest.raises(ValueError, match="takes the labels"):
        quiet.add(signals.RING_MISSES)
    with pytest.raises(ValueError, match="takes the labels"):
        quiet.add(signals.RING_MISSES, reason="deadline", tenant="a")


def test_names_of_the_operators_are_kept_up_to_a_number(quiet: Telemetry) -> None:
    for index in range(signals.MAX_NAMES + 3):
        quiet.add(signals.GOODPUT_TOKENS, slo_class=f"c{index}")
    quiet.add(signals.GOODPUT_TOKENS, slo_class="custom")
    quiet.add(signals.GOODPUT_TOKENS, slo_class="c0")
    lines = [line for line in quiet.prometheus().decode().splitlines() if line.startswith("adaserve_goodput")]
    assert len(lines) == signals.MAX_NAMES + 2
    assert 'adaserve_goodput_tokens_total{slo_class="c0"} 2.0' in lines
    assert 'adaserve_goodput_tokens_total{slo_class="custom"} 1.0' in lines
    assert 'adaserve_goodput_tokens_total{slo_class="other"} 3.0' in lines


def test_names_are_prefixed_and_unique() -> None:
    assert all(name.startswith("adaserve_") and name == metric.name for name, metric in signals.METRICS.items())


def test_span_times_are_wall_clock() -> None:
    assert telemetry.now_ns() > 1_600_000_000 * 10**9


@pytest.mark.parametrize(
    ("service", "most"), [("gateway", 3_500), ("verifier", 500), ("drafter", 220), ("selector", 220)]
)
def test_the_series_of_a_service_are_bounded_whatever_it_counts(service: str, most: int) -> None:
    assert sum(_most_series(metric) for metric in signals.METRICS.values() if service in metric.services) <= most


def _most_series(metric: signals.Metric) -> int:
    series = 1
    if metric is signals.INFO:  # a process has one service and one version
        return series
    for values in metric.labels.values():
        series *= len(values) + 1 + (signals.MAX_NAMES if isinstance(values, signals.Named) else 0)
    return series * (len(metric.buckets) + 3 if isinstance(metric, signals.Histogram) else 1)


def test_what_is_measured_for_later_shows_at_the_end(quiet: Telemetry) -> None:
    def shown() -> bool:
        return b'adaserve_hop_time_seconds_count{hop="draft"' in quiet.prometheus()

    with quiet.later():
        quiet.hop("draft", 1000.0, 1001.0)
        assert not shown()
    assert shown()
