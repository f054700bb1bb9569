"""Spans and metrics of one process: OpenTelemetry behind a few verbs.

A request's spans form one tree in its own trace (`signals.PARENT_OF`). Services do not share objects, so a span's
identity travels as a W3C `traceparent` string: each service makes its span a child of the string it was given and
passes its own on. Only sampled requests are carried, and without an OTLP endpoint no span is recorded at all:
strings then pass through unchanged, so a trace of the caller stays whole.

Spans of a whole batch are roots of their own traces and *link* to the sampled requests inside. Redis calls are not
instrumented: ten idle polls would be ten spans. Which requests are sampled is decided once, at the gateway
(docs/tracing.md).

Metrics are always collected for `/metrics`, and sent by OTLP as well when that is configured. The `OTEL_*`
variables have their standard meaning; the SDK reads them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import version
from threading import Lock
from typing import TYPE_CHECKING, Any, Self

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry, generate_latest

from shared import signals
from shared.otlp import metric_exporter, span_exporter
from shared.postponed import Postponed
from shared.settings import otlp_signals
from shared.signals import Counter, Gauge, Histogram, Metric
from shared.spans import OpenSpan, Tracer, now_ns
from shared.totals import Totals
from shared.tracing import Attributes, is_sampled, span_context

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricExporter, MetricReader
    from opentelemetry.sdk.trace.export import SpanExporter

__all__ = [
    "OpenSpan",
    "Telemetry",
    "configure",
    "is_sampled",
    "now_ns",
]


class Telemetry:
    """What `configure` returns: the process's spans and metrics. Close it, or use it as a context manager."""

    def __init__(self, tracer: Tracer | None, meter_provider: MeterProvider, registry: CollectorRegistry) -> None:
        self._tracer = tracer
        self._meter_provider = meter_provider
        self._meter = meter_provider.get_meter("adaserve")
        self._registry = registry
        self._instruments: dict[str, Any] = {}
        self._creating = Lock()
        self._kept: dict[tuple[Any, ...], Mapping[str, str]] = {}  # by metric and labels, once looked at
        self._names: defaultdict[str, set[str]] = defaultdict(set)
        self._postponed = Postponed()

    # -- spans of one request --
    def request(
        self,
        traceparent: str | None,
        name: str,
        *,
        share: float | None = None,
        trusts: bool = False,
        link: str | None = None,
    ) -> OpenSpan:
        """Open the SERVER span of a request: below the client's `traceparent`, or the root of a new trace.

        `share` of such requests are sampled, of those whose client samples too no more, unless it `trusts` the
        client, and none where the client does not sample. None: as `OTEL_TRACES_SAMPLER` says. Whoever goes on
        with the sampled request of another trace is sampled, and linked to it.
        """
        if self._tracer is None:
            return OpenSpan(traceparent if span_context(traceparent) else None)
        linked = span_context(link)
        is_linked = linked is not None and linked.trace_flags.sampled
        return self._tracer.root(traceparent, name, share, trusts=trusts, linked=linked if is_linked else None)

    def open(
        self, parent: str | None, name: str, start_ns: int | None = None, attributes: Attributes | None = None
    ) -> OpenSpan:
        """Open a child of `parent`; nothing, passing `parent` on, when that is not sampled."""
        remote = None if self._tracer is None else span_context(parent)
        if self._tracer is None or remote is None or not remote.trace_flags.sampled:
            return OpenSpan(parent)
        span = self._tracer.child(remote, name, start_ns)
        span.set(attributes or {})
        return span

    def child(
        self, parent: str | None, name: str, start_ns: int, end_ns: int, attributes: Attributes | None = None
    ) -> str | None:
        """Record a finished child of `parent`, wall-clock nanoseconds; returns what its own children are given."""
        span = self.open(parent, name, start_ns, attributes)
        span.end(end_ns)
        return span.traceparent

    # -- the span of a batch --
    @contextmanager
    def batch(
        self, name: str, links: Iterable[str | None], attributes: Attributes | None = None
    ) -> Iterator[OpenSpan]:
        """Span of the enclosed work on a batch, its own root, linked to the sampled requests in it.

        A batch without a sampled request is not recorded. An exception marks the span and goes on.
        """
        span = self.open_batch(name, links)
        span.set(attributes or {})
        try:
            yield span
        except BaseException as error:
            span.end(error=type(error).__name__)  # never its text, which may quote a prompt
            raise
        span.end()

    def open_batch(self, name: str, links: Iterable[str | None], start_ns: int | None = None) -> OpenSpan:
        """`batch` for work that ends elsewhere."""
        if self._tracer is None:
            return OpenSpan(None)
        contexts = [context for link in links if (context := span_context(link)) and context.trace_flags.sampled]
        return self._tracer.batch(name, contexts, start_ns) if contexts else OpenSpan(None)

    # -- metrics --
    def announce(self, service: str) -> None:
        """What runs here, and its counters at 0: of a series that begins at 1 Prometheus sees no increase."""
        self.set(signals.INFO, 1, service=service, version=version("adaserve"))
        for metric in signals.METRICS.values():
            if isinstance(metric, Counter) and service in metric.services:
                for labels in metric.zeros():
                    self.add(metric, 0, **labels)

    def later(self) -> AbstractContextManager[None]:
        """What this thread measures inside is counted at its end: a dozen metrics cost as much as a message."""
        return self._postponed.until_end()

    def once_out(self, call: Callable[..., object], *arguments: Any) -> None:
        """Calls it at the end of `later`, at once outside of one: what is made of an answer that is out first."""
        self._postponed.call(call, *arguments)

    def catch_up(self) -> None:
        """Counts what was measured until now, before a wait inside `later`."""
        self._postponed.catch_up()

    def add(self, metric: Counter, amount: float = 1, **labels: str) -> None:
        """Count `amount` more. Unknown label names raise ValueError; unlisted values count as "other"."""
        self._postponed.call(self._tell, "add", metric, amount, labels)

    def set(self, metric: Gauge, value: float, **labels: str) -> None:
        """The value now."""
        self._postponed.call(self._tell, "set", metric, value, labels)

    def record(self, metric: Histogram, value: float, **labels: str) -> None:
        """One observation, in the metric's unit."""
        self._postponed.call(self._tell, "record", metric, value, labels)

    def hop(self, hop: str, sent_ms: float, now_ms: float) -> None:
        """An entry's way between two services, by their wall clocks; one without a time (0) has none."""
        if sent_ms:
            self.record(signals.HOP_TIME, max(0.0, now_ms - sent_ms) / 1_000, hop=hop)

    def _tell(self, verb: str, metric: Metric, value: float, labels: Mapping[str, str]) -> None:
        getattr(self._instrument(metric), verb)(value, self._bounded(metric, labels))

    def _bounded(self, metric: Metric, labels: Mapping[str, str]) -> Mapping[str, str]:
        known = self._kept.get((metric.name, *labels.items()))
        if known is not None:
            return known
        if labels.keys() != metric.labels.keys():
            raise ValueError(f"{metric.name} takes the labels {sorted(metric.labels)}, not {sorted(labels)}")
        # Plain strings: a member of an enumeration would be a series of its own beside the one of its value.
        plain = {name: str(value) for name, value in labels.items()}
        told = {
            name: value if self._is_kept(metric, name, value) else signals.OTHER for name, value in plain.items()
        }
        if told == plain:  # there are no more of these than series
            self._kept[(metric.name, *labels.items())] = told
        return told

    def _is_kept(self, metric: Metric, label: str, value: str) -> bool:
        listed = metric.labels[label]
        if value in listed or not isinstance(listed, signals.Named):
            return value in listed
        names = self._names[label]
        if len(names) < signals.MAX_NAMES:
            names.add(value)
        return value in names

    def _instrument(self, metric: Metric) -> Any:
        instrument = self._instruments.get(metric.name)
        if instrument is None:
            with self._creating:
                if metric.name not in self._instruments:
                    self._instruments[metric.name] = self._create(metric)
            instrument = self._instruments[metric.name]
        return instrument

    def _create(self, metric: Metric) -> Any:
        described = {"unit": metric.unit, "description": metric.description}
        if isinstance(metric, Histogram):
            return self._meter.create_histogram(
                metric.name, **described, explicit_bucket_boundaries_advisory=list(metric.buckets)
            )
        if isinstance(metric, Counter):
            totals = Totals(metric.name)
            self._meter.create_observable_counter(metric.name, [totals.observe], **described)
            return totals
        return self._meter.create_gauge(metric.name, **described)

    def prometheus(self) -> bytes:
        """The body of `/metrics`, Prometheus text format 0.0.4."""
        return generate_latest(self._registry)

    # -- end --
    def shutdown(self) -> None:
        """Send what is buffered and stop the exporters' threads. Idempotent."""
        tracer, self._tracer = self._tracer, None
        if tracer is not None:
            tracer.shutdown()
        if self._meter_provider is not None:
            self._meter_provider.shutdown()
            self._meter_provider = None  # type: ignore[assignment]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()


def configure(service: str, instance: str) -> Telemetry:
    """Telemetry of this process; `service` is gateway, drafter, selector or verifier, `instance` its member name.

    Nothing global is set: two of them may live in one process (tests do that). Raises ConfigurationError.
    """
    exported = otlp_signals()
    spans = span_exporter() if "traces" in exported else None  # both before a thread is started that could stay
    metrics = metric_exporter() if "metrics" in exported else None
    resource = Resource.create(
        {"service.namespace": "adaserve", "service.name": service, "service.instance.id": instance}
    )
    registry = CollectorRegistry()
    telemetry = Telemetry(
        None if spans is None else _tracer(resource, spans),
        MeterProvider(_metric_readers(registry, metrics), resource, shutdown_on_exit=False),
        registry,
    )
    telemetry.announce(service)
    return telemetry


def _tracer(resource: Resource, exporter: SpanExporter) -> Tracer:
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    return Tracer(TracerProvider(resource=resource, shutdown_on_exit=False), BatchSpanProcessor(exporter))


def _metric_readers(registry: CollectorRegistry, exporter: MetricExporter | None) -> list[MetricReader]:
    from opentelemetry.exporter.prometheus import PrometheusMetricReader

    readers: list[MetricReader] = [PrometheusMetricReader(scope_info_enabled=False, registry=registry)]
    if exporter is not None:
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

        readers.append(PeriodicExportingMetricReader(exporter))
    return readers
