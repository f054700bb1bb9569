"""Spans as this system makes them: most are known only when they are over, and few are made at all.

A span is one small object until it ends; then it goes to the SDK's batch processor, which exports it from a thread
of its own. The SDK's own tracer would cost three times as much per span, and could not record a request of which
only its end tells that it is worth a trace (`OpenSpan.keep`).
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from shared.tracing import Attribute, Attributes, context_from, span_context, traceparent_of

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

SAMPLED = TraceFlags(TraceFlags.SAMPLED)
NOT_SAMPLED = TraceFlags(TraceFlags.DEFAULT)
_SCOPE = InstrumentationScope("adaserve")
_UNSET = Status(StatusCode.UNSET)


def now_ns() -> int:
    """Wall clock for span times. Decisions never use it."""
    return time.time_ns()


class Tracer:
    """Makes this process's spans; ``provider`` has resource, ids and the sampler of `OTEL_TRACES_SAMPLER`."""

    def __init__(self, provider: TracerProvider, processor: BatchSpanProcessor) -> None:
        self._provider = provider
        self._processor = processor

    def root(
        self,
        traceparent: str | None,
        name: str,
        share: float | None,
        *,
        trusts: bool,
        linked: SpanContext | None = None,
    ) -> OpenSpan:
        """A SERVER span below the client's, or of a new trace; whether it is sampled is decided here.

        As a sampled span is that it is linked to.
        """
        parent = span_context(traceparent)
        trace_id = self._provider.id_generator.generate_trace_id() if parent is None else parent.trace_id
        is_taken = linked is not None or self._is_taken(parent, trace_id, name, share, trusts=trusts)
        flags, links = SAMPLED if is_taken else NOT_SAMPLED, [] if linked is None else [Link(linked)]
        return self._open(name, parent, trace_id, flags, SpanKind.SERVER, links=links)

    def _is_taken(
        self, parent: SpanContext | None, trace_id: int, name: str, share: float | None, *, trusts: bool
    ) -> bool:
        """By ``share`` a die decides: a client may choose its trace id, which the standard's ratios go by."""
        if share is None:
            result = self._provider.sampler.should_sample(context_from(parent), trace_id, name, SpanKind.SERVER)
            return result.decision is Decision.RECORD_AND_SAMPLE
        if parent is not None and (trusts or not parent.trace_flags.sampled):
            return bool(parent.trace_flags.sampled)
        return random.random() < share  # noqa: S311 - samples, guards nothing

    def child(self, parent: SpanContext, name: str, start_ns: int | None) -> OpenSpan:
        """Below a sampled span of any service."""
        return self._open(name, parent, parent.trace_id, SAMPLED, start_ns=start_ns)

    def batch(self, name: str, linked: Iterable[SpanContext], start_ns: int | None) -> OpenSpan:
        """A root of its own, linked to sampled spans."""
        trace_id = self._provider.id_generator.generate_trace_id()
        return self._open(name, None, trace_id, SAMPLED, start_ns=start_ns, links=[Link(one) for one in linked])

    def _open(
        self,
        name: str,
        parent: SpanContext | None,
        trace_id: int,
        flags: TraceFlags,
        kind: SpanKind = SpanKind.INTERNAL,
        *,
        start_ns: int | None = None,
        links: list[Link] | None = None,
    ) -> OpenSpan:
        span_id = self._provider.id_generator.generate_span_id()
        context = SpanContext(trace_id, span_id, is_remote=False, trace_flags=flags)
        return OpenSpan(None, _Span(self, name, context, parent, kind, start_ns or now_ns(), links or []))

    def export(self, span: _Span, end_ns: int, status: Status) -> None:
        """Hand over to the exporter's thread; where its queue is full, the oldest are dropped."""
        self._processor.on_end(
            ReadableSpan(
                name=span.name,
                context=span.context,
                parent=span.parent,
                resource=self._provider.resource,
                attributes=span.attributes,
                links=span.links,
                kind=span.kind,
                status=status,
                start_time=span.start_ns,
                end_time=end_ns,
                instrumentation_scope=_SCOPE,
            )
        )

    def shutdown(self) -> None:
        """Send what is buffered and stop the exporter's thread."""
        self._processor.shutdown()  # type: ignore[no-untyped-call]


class _Span:
    """What is known of a span that has not ended."""

    __slots__ = ("attributes", "context", "kind", "links", "name", "parent", "start_ns", "tracer")

    def __init__(
        self,
        tracer: Tracer,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        kind: SpanKind,
        start_ns: int,
        links: list[Link],
    ) -> None:
        self.tracer = tracer
        self.name = name
        self.context = context
        self.parent = parent
        self.kind = kind
        self.start_ns = start_ns
        self.links = links
        self.attributes: dict[str, Attribute] = {}


class OpenSpan:
    """A span whose end is not known yet, or, where nobody records, just the string that is passed on.

    `traceparent` is what its children are given.
    """

    __slots__ = ("_span", "traceparent")

    def __init__(self, traceparent: str | None, span: _Span | None = None) -> None:
        self._span = span
        self.traceparent = traceparent if span is None else traceparent_of(span.context)

    @property
    def is_recorded(self) -> bool:
        """Whether attributes are worth computing."""
        return self._span is not None and self._span.context.trace_flags.sampled

    @property
    def start_ns(self) -> int:
        """When it began, 0 where nobody records."""
        return 0 if self._span is None else self._span.start_ns

    def keep(self) -> bool:
        """Record it though it was not sampled, and children that it gets from now on; False where nobody does."""
        span = self._span
        if span is not None and not span.context.trace_flags.sampled:
            was = span.context
            span.context = SpanContext(was.trace_id, was.span_id, is_remote=False, trace_flags=SAMPLED)
            self.traceparent = traceparent_of(span.context)
        return span is not None

    def set(self, attributes: Attributes) -> None:
        """Add attributes known only now."""
        if self._span is not None:
            self._span.attributes.update(attributes)

    def end(
        self, end_ns: int | None = None, attributes: Attributes | None = None, error: str | None = None
    ) -> None:
        """Close it (once; later calls do nothing); `error` marks it as failed."""
        span, self._span = self._span, None
        if span is None or not span.context.trace_flags.sampled:
            return
        span.attributes.update(attributes or {})
        status = _UNSET if error is None else Status(StatusCode.ERROR, error)
        end_ns = now_ns() if end_ns is None else end_ns
        span.tracer.export(span, max(span.start_ns, end_ns), status)  # a wall clock may be set back
