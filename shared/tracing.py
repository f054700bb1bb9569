"""What rides between services so that one request has one trace: W3C `traceparent` strings.

A service makes its span a child of the string it was given and passes its own on. `OpenSpan` is that span, or,
when nobody records the request, just the string.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

Attribute: TypeAlias = str | bool | int | float
Attributes: TypeAlias = Mapping[str, Attribute]

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


def traceparent_of(span: trace.Span) -> str:
    """The W3C header of `span`, e.g. `00-<trace id>-<span id>-01`."""
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def span_context(traceparent: str | None) -> SpanContext | None:
    """The remote span `traceparent` names; None for None or anything malformed (the header is the client's)."""
    match = _TRACEPARENT.fullmatch(traceparent or "")
    if match is None:
        return None
    trace_id, span_id, flags = (int(group, 16) for group in match.groups())
    context = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))
    return context if context.is_valid else None


def context_from(traceparent: str | None) -> Context:
    """A context whose current span is the remote one; an empty context when there is none."""
    remote = span_context(traceparent)
    return Context() if remote is None else trace.set_span_in_context(NonRecordingSpan(remote), Context())


def is_sampled(traceparent: str | None) -> bool:
    """Whether anyone records this request: only such rows ride in a message's `traces` column."""
    remote = span_context(traceparent)
    return remote is not None and remote.trace_flags.sampled


class LinkedSampler(Sampler):
    """Records a batch span whenever a request it links to is sampled; else as `OTEL_TRACES_SAMPLER` says."""

    def __init__(self, standard: Sampler) -> None:
        self._standard = standard

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Mapping[str, Any] | None = None,
        links: Sequence[Link] | None = None,
        trace_state: trace.TraceState | None = None,
    ) -> SamplingResult:
        if any(link.context.trace_flags.sampled for link in links or ()):
            return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes)
        return self._standard.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        return f"Linked({self._standard.get_description()})"


class OpenSpan:
    """A span whose end is not known yet. `traceparent` is what its children are given."""

    def __init__(self, span: trace.Span | None, traceparent: str | None) -> None:
        self._span = span
        self.traceparent = traceparent if span is None else traceparent_of(span)

    def set(self, attributes: Attributes) -> None:
        """Add attributes known only now."""
        if self._span is not None:
            self._span.set_attributes(attributes)

    def end(
        self, end_ns: int | None = None, attributes: Attributes | None = None, error: str | None = None
    ) -> None:
        """Close it (once; later calls do nothing); `error` marks it as failed."""
        if self._span is None:
            return
        self.set(attributes or {})
        if error is not None:
            self._span.set_status(Status(StatusCode.ERROR, error))
        self._span.end(end_ns)
        self._span = None
