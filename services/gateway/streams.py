"""Committed tokens from Redis to the requests that wait for them.

One reader per process drains `tokens:<gateway>` and hands each event to its request, never waiting for one of
them. What the stream lost (trimmed, unreadable, Redis away) is read from the journal by attaching again: on a gap,
after every trouble with Redis, and when a request has been silent for long (`healing`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from services.gateway.admission import Leaving
from services.gateway.bus import Bus
from services.gateway.delivery import Delivery, Gap, terminal
from services.gateway.healing import Healing
from services.gateway.open_stream import OpenStream
from services.gateway.tasks import end, vital
from shared.errors import BusUnavailable, UnreadableMessage
from shared.failures import bus_errors, kind_of
from shared.records import Origin
from shared.replies import Attached
from shared.signals import BUS_ERRORS, HINTS_DROPPED, OPEN_STREAMS
from shared.streams import MAX_BLOCK_MS, MAX_ENTRIES, Entry, connect_async, parse_streams
from shared.telemetry import Telemetry
from shared.topics import TOKENS

logger = logging.getLogger(__name__)

AUDIT_S = 0.25


class Streams:
    """All requests this gateway delivers, and the tasks that feed them."""

    def __init__(
        self, url: str, bus: Bus, telemetry: Telemetry, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._telemetry = telemetry
        self._clock = clock
        self._client = connect_async(url, blocking=True)
        self._stream = bus.keys.tokens(bus.gateway)
        self._cursor = "0-0"
        self._open: dict[str, OpenStream] = {}
        self._are_left = False
        self._healing = Healing(bus, telemetry, self._redis_now_ms)
        self._tasks: list[asyncio.Task[None]] = []
        self._redis_offset_ms: float | None = None

    def start(self) -> None:
        self._tasks = [vital(self._read()), vital(self._audit())]

    async def stop(self) -> None:
        await end(self._tasks)
        await self._healing.stop()
        await self._client.aclose()

    @property
    def is_running(self) -> bool:
        return all(not task.done() for task in self._tasks)

    def open(self, delivery: Delivery, origin: Origin) -> OpenStream:
        """Buffer what comes for this request from now on: before it is enqueued or joined.

        A connection of this gateway that had the request hears that it has been detached.
        """
        before = self._open.get(delivery.request)
        stream = self._open[delivery.request] = OpenStream(delivery, origin, self._clock)
        if before is not None:
            before.is_open = False
            before.put(before.delivery.receive(terminal(delivery.request, "detached"), 0.0))
        if self._are_left:
            stream.leave(Leaving(delivery.request))
        self._count()
        return stream

    async def join(self, stream: OpenStream) -> Attached:
        """Take the request over from whichever connection had it. Raises BusUnavailable."""
        return await self._healing.join(stream)

    def close(self, stream: OpenStream) -> None:
        """Forget the connection. Idempotent."""
        stream.is_open = False
        if self._open.get(stream.delivery.request) is stream:
            del self._open[stream.delivery.request]
        self._count()

    def _count(self) -> None:
        self._telemetry.set(OPEN_STREAMS, len(self._open))

    def leave_all(self) -> None:
        """End every open stream, and all that are opened from now on; their requests go on."""
        self._are_left = True
        for request, stream in self._open.items():
            stream.leave(Leaving(request))

    def on_recreated(self) -> None:
        """Redis had forgotten the stream: read it from its beginning, and every journal."""
        self._cursor = "0-0"
        self._heal_all()

    async def _read(self) -> None:
        was_away = False
        while True:
            try:
                entries = await self._read_entries()
            except BusUnavailable as error:
                logger.warning("cannot read tokens: %s", error)
                self._telemetry.add(BUS_ERRORS, kind=kind_of(error))
                was_away = True
                await asyncio.sleep(0.1)
                continue
            if was_away:
                was_away = False
                self._heal_all()
            if entries:  # the one that has waited longest: of all of them would be a twentieth of the work
                self._telemetry.hop("tokens", entries[0].committed_at, time.time() * 1_000)
            for entry in entries:
                self._cursor = entry.id
                self._dispatch(entry)

    async def _read_entries(self) -> list[Entry]:
        words = ("XREAD", "COUNT", MAX_ENTRIES, "BLOCK", MAX_BLOCK_MS, "STREAMS", self._stream, self._cursor)
        with bus_errors():
            reply = await self._client.execute_command(*words)  # type: ignore[no-untyped-call]
        return parse_streams(reply).get(self._stream, [])

    def _dispatch(self, entry: Entry) -> None:
        try:
            event = TOKENS.decode(entry.body)
        except UnreadableMessage as error:
            logger.warning("unreadable token event: %s", error)
            self._telemetry.add(HINTS_DROPPED, reason="unreadable")
            return
        if entry.committed_at:
            self._redis_offset_ms = entry.committed_at - self._clock() * 1_000
        stream = self._open.get(event.request)
        if stream is None:
            return
        if stream.is_traced and entry.committed_at:
            stream.waited(time.time() * 1_000 - entry.committed_at)
        if event.finish == "detached":  # perhaps meant for an earlier connection: Redis knows which one counts
            self._healing.heal(stream)
            return
        try:
            stream.put(stream.delivery.receive(event, entry.committed_at or self._redis_now_ms()))
        except Gap:
            self._healing.heal(stream)

    async def _audit(self) -> None:
        while True:
            await asyncio.sleep(AUDIT_S)
            for stream in list(self._open.values()):
                if stream.is_overdue():
                    self._healing.heal(stream)

    def _heal_all(self) -> None:
        for stream in list(self._open.values()):
            self._healing.heal(stream)

    def _redis_now_ms(self) -> float:
        if self._redis_offset_ms is None:
            return time.time() * 1_000
        return self._clock() * 1_000 + self._redis_offset_ms
