"""Clients of the simulated gateways: what each has got, and how it comes back when its connection is gone."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from services.gateway.errors import ApiError
from services.gateway.output import Piece
from services.gateway.stream_ids import EventIds
from shared import digest as digests
from shared.messages import Request
from tests.faults.wire import Process

AGAIN_MS = 150.0
CHANGED = "stream_changed"
PATIENCE_MS = 6000.0
"""How long a client asks for a stream that nobody knows: longer than a verifier or gateway needs to restore it."""


@dataclass(frozen=True, slots=True)
class Body:
    """What the door gets in place of JSON."""

    request: Request
    is_resumable: bool
    n: int | None = None


@dataclass
class Client:
    """One client, over all of its connections.

    With a ``key`` it asks again by its Idempotency-Key and gets its answer from the beginning; without, it resumes
    after its last event if it has been told the stream's name, and else asks anew.
    """

    request: Request
    key: str | None = None
    is_resumable: bool = False
    tokens: list[int] = field(default_factory=list)
    before: list[int] = field(default_factory=list)  # by earlier connections to the same request
    logprobs: bytes = b""  # entries of the tokens, perhaps of some more
    has_odd_flags: bool = False  # not one for each token, or some that were not asked for
    num_checked: int = 0  # of the tokens
    ends: list[str] = field(default_factory=list)
    error: str = ""
    has_left: bool = False  # for good
    is_told: bool = False  # the stream's name
    num_cut: int = 0  # connections that ended with their gateway
    num_left: int = 0  # connections that it closed to come back
    num_changed: int = 0  # times that what it had got was not the stream's beginning any more
    due_ms: float = 0.0  # when to connect again
    task: asyncio.Task[None] | None = None
    gateway: Process | None = None  # of its connection
    _unknown_since_ms: float | None = None

    @property
    def is_over(self) -> bool:
        return bool(self.ends) or self.has_left

    @property
    def is_connected(self) -> bool:
        return self.task is not None and not self.task.done()

    @property
    def last_event(self) -> str | None:
        """The id of the last event it has got."""
        prompt = self.request.prompt.tolist()
        ids = EventIds(self.request.request, len(prompt), digests.extend(digests.EMPTY, prompt), self.tokens)
        return ids.at(len(prompt) + len(self.tokens)) if self.tokens else None

    def opened(self, request: Request) -> None:
        """The stream has a name now."""
        self.is_told, self._unknown_since_ms = True, None
        if self.key is not None:
            is_same = request.request == self.request.request
            self.before = max(self.before, self.tokens, key=len) if is_same else []
            self.tokens, self.logprobs, self.num_checked = [], b"", 0
        self.request = request

    def take(self, piece: Piece, logprobs: bytes, drafted: list[bool | None] | None) -> None:
        """An event; ``logprobs`` are those of all tokens so far, by its connection, and perhaps of some more.

        ``drafted`` says where the event's tokens come from, if the request is inspected.
        """
        self.tokens += piece.tokens
        self.logprobs = logprobs
        num_flags = None if drafted is None else len(drafted)
        self.has_odd_flags |= num_flags != (len(piece.tokens) if self.request.inspect else None)

    def cut(self) -> None:
        """Its gateway is gone, and has said nothing."""
        self.task = self.gateway = None
        self.num_cut += 1

    def leave(self, back_ms: float | None) -> None:
        """Close the connection, to be back by then or never."""
        assert self.task is not None
        self.task.cancel()
        can_return = self.key is not None or (self.is_resumable and self.is_told)
        self.has_left = back_ms is None or not can_return
        if back_ms is not None and can_return:
            self.task = self.gateway = None
            self.due_ms, self.num_left = back_ms, self.num_left + 1

    def refused(self, error: ApiError, now_ms: float) -> None:
        """No connection: try again, or give up."""
        if error.code == CHANGED:
            self.begin_anew()
            return
        is_new = not self.is_told and self.key is None
        is_final = error.status != 503
        if error.status == 404:
            self._unknown_since_ms = self._unknown_since_ms or now_ms
            is_final = now_ms - self._unknown_since_ms > PATIENCE_MS
        if is_new or is_final:
            self.failed(error)
        self.due_ms = now_ms + AGAIN_MS

    def begin_anew(self) -> None:
        """What it has got is not the beginning of the stream any more: it reads all of it."""
        self.tokens, self.logprobs, self.num_checked = [], b"", 0
        self.num_changed += 1
        self.task = self.gateway = None

    def failed(self, error: ApiError) -> None:
        """The answer ended with an error."""
        if error.code == CHANGED:
            self.begin_anew()
            return
        self.ends.append(error.code)
        self.error = str(error)
