"""What rides between services so that one request has one trace: W3C `traceparent` strings. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

Attribute: TypeAlias = str | bool | int | float | Sequence[str]
Attributes: TypeAlias = Mapping[str, Attribute]

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


def traceparent_of(context: SpanContext) -> str:
    """The W3C header of a span, e.g. `00-<trace id>-<span id>-01`."""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def span_context(traceparent: str | None) -> SpanContext | None:
    """The remote span `traceparent` names; None for None or anything malformed (the header is the client's)."""
    match = _TRACEPARENT.fullmatch(traceparent or "")
    if match is None:
        return None
    trace_id, span_id, flags = (int(group, 16) for group in match.groups())
    context = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))
    return context if context.is_valid else None


def context_from(remote: SpanContext | None) -> Context:
    """A context whose current span is the remote one; an empty context when there is none."""
    return Context() if remote is None else trace.set_span_in_context(NonRecordingSpan(remote), Context())


def is_sampled(traceparent: str | None) -> bool:
    """Whether anyone records this request: only such rows ride in a message's `traces` column."""
    remote = span_context(traceparent)
    return remote is not None and remote.trace_flags.sampled
