"""Where spans and metrics are sent: OTLP over HTTP, or over gRPC where that is wanted and installed.

The exporters are imported only when used: each costs a process a tenth of a second of start-up. The SDK reads
endpoint, headers, certificates and the like from the standard `OTEL_EXPORTER_OTLP_*` variables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.errors import ConfigurationError
from shared.settings import GRPC, otlp_protocol

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricExporter
    from opentelemetry.sdk.trace.export import SpanExporter


def span_exporter() -> SpanExporter:
    """Raises ConfigurationError for a protocol that is unknown or not installed."""
    if otlp_protocol("traces") != GRPC:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        return OTLPSpanExporter()
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpanExporter
    except ImportError:
        raise _not_installed() from None
    return GrpcSpanExporter()


def metric_exporter() -> MetricExporter:
    """Raises ConfigurationError for a protocol that is unknown or not installed."""
    if otlp_protocol("metrics") != GRPC:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

        return OTLPMetricExporter()
    try:
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetricExporter
    except ImportError:
        raise _not_installed() from None
    return GrpcMetricExporter()


def _not_installed() -> ConfigurationError:
    return ConfigurationError(
        "OTEL_EXPORTER_OTLP_PROTOCOL=grpc needs the extra `grpc`: pip install 'adaserve[grpc]'; "
        "http/protobuf needs nothing more"
    )
