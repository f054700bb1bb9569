"""Exports over both OTLP transports to real receivers, and what is refused."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from shared import signals, telemetry
from shared.errors import ConfigurationError
from tests.otlp import Collector, collector, grpc_collector

Receiver = Callable[[], AbstractContextManager[Collector]]


@pytest.mark.parametrize(
    ("protocol", "receiver"), [(None, collector), ("http/protobuf", collector), ("grpc", grpc_collector)]
)
def test_spans_and_metrics_arrive(
    monkeypatch: pytest.MonkeyPatch, protocol: str | None, receiver: Receiver
) -> None:
    if protocol is not None:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
    with receiver() as received:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", received.endpoint)
        with telemetry.configure("gateway", "g.1") as gateway:
            gateway.add(signals.STEPS, kind="bare")
            request = gateway.request(None, signals.GATEWAY_REQUEST)
            gateway.child(request.traceparent, signals.GATEWAY_DELIVER, 1, 2, {signals.HOP_WAIT_MS: 0.5})
            request.end(attributes={signals.GEN_AI_FINISH_REASONS: ["stop"]})
        deliver, root = sorted(received.spans, key=lambda span: span.name)
        assert "adaserve_steps" in received.metrics
    assert (deliver.trace_id, deliver.parent_id) == (root.trace_id, root.span_id)
    assert (deliver.service, deliver.instance) == ("gateway", "g.1")
    assert deliver.attributes == {signals.HOP_WAIT_MS: 0.5}
    assert root.attributes == {signals.GEN_AI_FINISH_REASONS: ["stop"]}


def test_each_signal_may_have_a_transport_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc")
    with grpc_collector() as traces, collector() as metrics:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", traces.endpoint)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", f"{metrics.endpoint}/v1/metrics")
        with telemetry.configure("gateway", "g.1") as gateway:
            gateway.add(signals.STEPS, kind="bare")
            gateway.request(None, signals.GATEWAY_REQUEST).end()
        assert len(traces.spans) == 1
        assert "adaserve_steps" in metrics.metrics


@pytest.mark.parametrize("signal", ["TRACES", "METRICS"])
def test_an_unknown_protocol_stops_the_start(monkeypatch: pytest.MonkeyPatch, signal: str) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", "http/json")
    with pytest.raises(ConfigurationError, match=rf"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL='http/json': must be"):
        telemetry.configure("gateway", "g.1")


@pytest.mark.parametrize("signal", ["TRACES", "METRICS"])
def test_where_grpc_is_not_installed_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, signal: str) -> None:
    for name in list(sys.modules):
        if name.startswith("opentelemetry.exporter.otlp.proto.grpc"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.grpc", None)
    monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with pytest.raises(ConfigurationError, match=r"adaserve\[grpc\]"):
        telemetry.configure("gateway", "g.1")
