"""Names of streams and of places in them, as clients send them back. Pure."""

from __future__ import annotations

import re

from services.gateway.errors import invalid
from services.gateway.tenancy import unknown_stream

LAST_EVENT_ID = "Last-Event-ID"
STREAM_HEADER = "x-adaserve-stream"

_STREAM = re.compile(r"(?:chatcmpl-|cmpl-)?([0-9a-f]{32})")
_EVENT = re.compile(r"([0-9a-f]{32}):([0-9]{1,8})")


def request_of(stream: str) -> str:
    """The request's id, from itself or from an answer's `id`. Raises ApiError 404."""
    match = _STREAM.fullmatch(stream)
    if match is None:
        raise unknown_stream()
    return match[1]


def position_of(event: str | None, request: str) -> int | None:
    """The position that an event's id names, None without one. Raises ApiError 400 for any other text."""
    if not event:
        return None
    match = _EVENT.fullmatch(event)
    if match is None:
        raise invalid(LAST_EVENT_ID, f"must be the id of an event, '<request>:<position>' (got {event[:64]!r})")
    if match[1] != request:
        raise invalid(LAST_EVENT_ID, "is the id of another stream's event")
    return int(match[2])


def check_position(position: int | None, *, prompt: int, end: int, has_ended: bool) -> None:
    """Raises ApiError 400 for a position that no event of the stream can have.

    ``end`` is where its output ends, or may end at most. A position that Redis does not hold yet is none of these:
    it may have forgotten what an event told, and the tokens will come again.
    """
    if position is None or prompt <= position <= end:
        return
    limit = "ends" if has_ended else "ends at the latest"
    raise invalid(
        LAST_EVENT_ID, f"position {position} is outside: the output begins at {prompt} and {limit} at {end}"
    )
