"""The loop of drafter and selector: read, decode, fold, handle, publish; in between one slice of background work.

Synchronous on purpose: one thread owns the model or the arrays, and a turn is easy to reason about. The messages
are hints: whatever goes wrong with one costs a step's speculation, so nothing is retried and nothing is kept.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from redis import Redis

from shared import codec, signals
from shared.errors import BusUnavailable, UnreadableMessage
from shared.failures import kind_of
from shared.functions import Command
from shared.heartbeat import Pulse
from shared.messages import Message
from shared.streams import MAX_BLOCK_MS, Entry, check, hint, send
from shared.telemetry import Telemetry

logger = logging.getLogger(__name__)

M = TypeVar("M", bound=Message)
M_contra = TypeVar("M_contra", bound=Message, contravariant=True)

_FIRST_DELAY_S = 0.05
_LONGEST_DELAY_S = 1.0


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message to publish; `traceparent` is that of the batch span it comes from.

    ``notes`` are commands that leave in the same write, for people to look at: what becomes of them is no matter.
    """

    stream: str
    message: Message
    traceparent: str | None = None
    notes: Sequence[Command] = ()


class Reader(Protocol):
    """`HintReader` or `GroupReader`."""

    def read(self, block_ms: float | None) -> Mapping[str, Sequence[Entry]]: ...

    def close(self) -> None: ...


class Handler(Protocol[M_contra]):
    """Turns messages into messages; called from the worker's thread only."""

    @property
    def has_background_work(self) -> bool:
        """Whether `background` has something to do now; the worker then does not block."""
        ...

    def handle(self, message: M_contra, wait_ms: float) -> Sequence[Outgoing]:
        """The answer to one message, which was sent ``wait_ms`` ago (0 where that is not known)."""
        ...

    def background(self) -> None:
        """One bounded slice of work that no message waits for."""
        ...


class Worker(Generic[M]):
    """Runs a handler on a stream until told to stop; never ends because Redis is away.

    Of several waiting messages with the same `key` (verifier, ring) only the newest is handled: the sender has
    given up the others. `hop` is what the metric of the way here is called. With `burst` it returns as soon as the
    stream is empty and no background work is left.
    """

    def __init__(
        self,
        reader: Reader,
        handler: Handler[M],
        *,
        client: Redis,
        decode: Callable[[bytes], M],
        key: Callable[[M], Hashable],
        hop: str,
        telemetry: Telemetry,
        encode: Callable[[Message], bytes] = codec.encode,
        burst: bool = False,
        wall_ms: Callable[[], float] = lambda: time.time() * 1_000,
    ) -> None:
        self._reader = reader
        self._handler = handler
        self._client = client
        self._decode = decode
        self._key = key
        self._hop = hop
        self._telemetry = telemetry
        self._encode = encode
        self._burst = burst
        self._wall_ms = wall_ms
        self._stopping = threading.Event()
        self._delay_s = 0.0
        self.pulse = Pulse()
        """Ticks once a turn: what the heartbeat's `healthy` asks."""

    def run(self) -> None:
        """Turns until `stop`, or in burst mode until nothing is left; then leaves the reader's group."""
        while not self._stopping.is_set():
            try:
                if not self._turn() and self._burst:
                    break
                self._delay_s = 0.0
            except BusUnavailable as error:
                self._back_off(error)
        try:
            self._reader.close()
        except BusUnavailable as error:
            logger.warning("left without goodbye: %s", error)

    def stop(self) -> None:
        """Ends `run` after the message at hand. Safe from other threads."""
        self._stopping.set()

    def _turn(self) -> bool:
        """One turn; whether there was anything to do."""
        self.pulse.tick()
        waits = not self._burst and not self._handler.has_background_work
        with self._telemetry.later():  # once the answers are out
            entries = self._reader.read(MAX_BLOCK_MS if waits else None)
            for message, sent_ms in self._newest(entries):
                wait_ms = max(0.0, self._wall_ms() - sent_ms) if sent_ms else 0.0
                self._publish(self._handler.handle(message, wait_ms))
                self.pulse.tick()
                if self._stopping.is_set():
                    return True
        worked = self._handler.has_background_work
        if worked:
            self._handler.background()
        return worked or any(entries.values())

    def _newest(self, entries: Mapping[str, Sequence[Entry]]) -> list[tuple[M, float]]:
        """The newest readable message of each key, oldest key first, with the time at which it was sent."""
        newest: dict[Hashable, tuple[M, float]] = {}
        now_ms = self._wall_ms()
        for entry in (entry for batch in entries.values() for entry in batch):
            self._telemetry.hop(self._hop, entry.sent_at, now_ms)
            try:
                message = self._decode(entry.body)
            except UnreadableMessage as error:
                logger.warning("dropped entry %s: %s", entry.id, error)
                self._drop("unreadable")
                continue
            if newest.pop(self._key(message), None) is not None:
                self._drop("superseded")
            newest[self._key(message)] = message, entry.sent_at
        return list(newest.values())

    def _publish(self, outgoing: Sequence[Outgoing]) -> None:
        """All messages in one write; what was measured until then is counted before it is answered.

        A nil reply: that reader is gone.
        """
        if not outgoing:
            return
        now_ms = self._wall_ms()
        hints = [
            hint(out.stream, self._encode(out.message), traceparent=out.traceparent, now_ms=now_ms)
            for out in outgoing
        ]
        notes = [note for out in outgoing for note in out.notes]
        replies = send(self._client, [*hints, *notes], meanwhile=self._telemetry.catch_up)[: len(hints)]
        for reply in replies:
            if reply is None:
                self._drop("reader_gone")
        check(replies)

    def _drop(self, reason: str) -> None:
        self._telemetry.add(signals.HINTS_DROPPED, reason=reason)

    def _back_off(self, error: BusUnavailable) -> None:
        """Waits, longer each time and jittered, so that a returning Redis is not hit by all at once."""
        self._telemetry.add(signals.BUS_ERRORS, kind=kind_of(error))
        self._delay_s = min(_LONGEST_DELAY_S, max(_FIRST_DELAY_S, 2 * self._delay_s))
        logger.warning("Redis is away, next try in about %.2f s: %s", self._delay_s, error)
        self._stopping.wait(self._delay_s * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load, guards nothing
