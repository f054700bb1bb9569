"""Where spans and metrics are sent: OTLP over HTTP, or over gRPC where that is wanted and installed.

The exporters are imported only when used: each costs a process a tenth of a second of start-up. The SDK reads
endpoint, headers, certificates and the like from the standard `OTEL_EXPORTER_OTLP_*` variables.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from shared.errors import ConfigurationError
from shared.settings import GRPC, otlp_protocol

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricExporter
    from opentelemetry.sdk.trace.export import SpanExporter

PACKAGES = "opentelemetry.exporter.otlp.proto"


def span_exporter() -> SpanExporter:
    """Raises ConfigurationError for a protocol that is unknown or not installed."""
    exporter: SpanExporter = _module("traces", "trace_exporter").OTLPSpanExporter()
    return exporter


def metric_exporter() -> MetricExporter:
    """Raises ConfigurationError for a protocol that is unknown or not installed."""
    exporter: MetricExporter = _module("metrics", "metric_exporter").OTLPMetricExporter()
    return exporter


def _module(signal: str, name: str) -> Any:
    transport = "grpc" if otlp_protocol(signal) == GRPC else "http"
    try:
        return import_module(f"{PACKAGES}.{transport}.{name}")
    except ModuleNotFoundError:
        raise ConfigurationError(
            "OTEL_EXPORTER_OTLP_PROTOCOL=grpc needs the extra `grpc`: pip install 'adaserve[grpc]'; "
            "http/protobuf needs nothing more"
        ) from None
