"""Names of streams and of places in them, as clients send them back. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from services.gateway.errors import ApiError, invalid
from services.gateway.tenancy import unknown_stream
from shared import digest as digests

LAST_EVENT_ID = "Last-Event-ID"
STREAM_HEADER = "x-adaserve-stream"

_STREAM = re.compile(r"(?:chatcmpl-|cmpl-)?([0-9a-f]{32})")
_EVENT = re.compile(r"([0-9a-f]{32}):([0-9]{1,8}):([0-9a-f]{8})")
_MARK = 8  # hex digits of the digest in an event's id


@dataclass(frozen=True, slots=True)
class Seen:
    """The event that a client has received last: its position, and ``mark``, the digest's beginning there."""

    position: int
    mark: str


@dataclass(slots=True)
class EventIds:
    """Ids of one stream's events: `<request>:<position>:<mark>`.

    Starts at the end of the prompt; ``tokens`` is the output, which may grow. Positions only go forward.
    """

    request: str
    position: int
    digest: bytes
    tokens: Sequence[int]
    _start: int = -1
    _known: tuple[int, bytes] = (-1, b"")

    def __post_init__(self) -> None:
        self._start = self.position

    def at(self, position: int) -> str:
        """The id of the event after which the client has all text up to this position."""
        return event_id(self.request, position, self._mark(position))

    def know(self, position: int, digest: bytes) -> None:
        """The digest at a position, from whoever has computed it before."""
        self._known = position, digest

    def check(self, seen: Seen) -> None:
        """Raises ApiError 409 unless the client has received the beginning of this very output."""
        if self._mark(seen.position) != seen.mark:
            raise changed(seen.position)

    def _mark(self, position: int) -> str:
        if self._known[0] == position:
            self.position, self.digest = self._known
        else:
            new = self.tokens[self.position - self._start : position - self._start]
            self.digest = digests.extend(self.digest, new)
            self.position += len(new)
        return self.digest.hex()[:_MARK]


def changed(position: int) -> ApiError:
    """409: the message bus and the gateway have lost what the client was sent, and it went on otherwise."""
    return ApiError(
        409,
        f"The stream's tokens up to position {position} are not those that were sent before: "
        "the message bus has lost data since. Read it from its beginning",
        param=LAST_EVENT_ID,
        code="stream_changed",
    )


def event_id(request: str, position: int, mark: str) -> str:
    """As it stands in the stream."""
    return f"{request}:{position}:{mark}"


def request_of(stream: str) -> str:
    """The request's id, from itself or from an answer's `id`. Raises ApiError 404."""
    match = _STREAM.fullmatch(stream)
    if match is None:
        raise unknown_stream()
    return match[1]


def seen_of(event: str | None, request: str) -> Seen | None:
    """What an event's id says, None without one. Raises ApiError 400 for any other text."""
    if not event:
        return None
    match = _EVENT.fullmatch(event)
    if match is None:
        raise invalid(
            LAST_EVENT_ID, f"must be the id of an event, '<request>:<position>:<mark>' (got {event[:64]!r})"
        )
    if match[1] != request:
        raise invalid(LAST_EVENT_ID, "is the id of another stream's event")
    return Seen(int(match[2]), match[3])


def check_position(seen: Seen | None, *, prompt: int, end: int | None, limit: int) -> None:
    """Raises ApiError 400 for a position that no event of the stream can have, 409 for one that it has no more.

    ``end`` is where its output has ended, None as long as it goes on: a position that Redis does not hold yet may
    be one that it has forgotten, and the tokens will come again. ``limit`` is where it ends at the latest.
    """
    if seen is None:
        return
    if not prompt <= seen.position <= limit:
        raise invalid(
            LAST_EVENT_ID,
            f"position {seen.position} is outside: the output begins at {prompt} and ends by {limit}",
        )
    if end is not None and seen.position > end:
        raise changed(seen.position)
