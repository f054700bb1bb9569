"""Committed tokens from Redis to the requests that wait for them.

One reader per process drains `tokens:<gateway>` and hands each event to its request, never waiting for one of
them. What the stream lost (trimmed, unreadable, Redis away) is read from the journal by attaching again: on a gap,
after every trouble with Redis, and when a request has been silent for long.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from services.gateway.bus import Bus
from services.gateway.delivery import BrokenChain, Delivery, Delta, Gap, terminal
from services.gateway.errors import ApiError
from services.gateway.tasks import end, vital
from shared import scripts
from shared.errors import BusUnavailable, UnreadableMessage
from shared.failures import bus_errors
from shared.signals import HINTS_DROPPED, OPEN_STREAMS
from shared.streams import MAX_BLOCK_MS, MAX_ENTRIES, Entry, connect_async, parse_streams
from shared.telemetry import Telemetry
from shared.topics import TOKENS

logger = logging.getLogger(__name__)

FIRST_CHECK_S = 2.0  # of silence, then twice as long each time
LAST_CHECK_S = 30.0
MAX_ATTACHING = 32  # attaches at once


class OpenStream:
    """One request's deltas, in order, ending with a terminal one or an ApiError."""

    def __init__(self, delivery: Delivery, clock: Callable[[], float]) -> None:
        self.delivery = delivery
        self._clock = clock
        self._items: asyncio.Queue[Delta | ApiError] = asyncio.Queue()
        self._check_after_s = FIRST_CHECK_S
        self._heard = clock()
        self.is_enqueued = False  # before that Redis does not know the request
        self.is_attaching = False
        self.attach_again = False

    async def next(self, timeout_s: float) -> Delta | None:
        """The next delta, None when nothing came in time. Raises ApiError when the request has failed."""
        try:
            async with asyncio.timeout(timeout_s):
                item = await self._items.get()
        except TimeoutError:
            return None
        if isinstance(item, ApiError):
            raise item
        return item

    def put(self, item: Delta | ApiError | None) -> None:
        """Hand over what a delivery made; None is nothing new."""
        if item is not None:
            self._heard, self._check_after_s = self._clock(), FIRST_CHECK_S
            self._items.put_nowait(item)

    def is_overdue(self) -> bool:
        """Whether it has been silent so long that the journal should be asked; next time after twice as long."""
        if self._clock() - self._heard < self._check_after_s:
            return False
        self._heard = self._clock()
        self._check_after_s = min(LAST_CHECK_S, 2 * self._check_after_s)
        return True


class Streams:
    """All requests this gateway delivers, and the tasks that feed them."""

    def __init__(
        self, url: str, bus: Bus, telemetry: Telemetry, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._bus = bus
        self._telemetry = telemetry
        self._clock = clock
        self._client = connect_async(url, blocking=True)
        self._stream = bus.keys.tokens(bus.gateway)
        self._cursor = "0-0"
        self._open: dict[str, OpenStream] = {}
        self._attaches: set[asyncio.Task[None]] = set()
        self._attach_slots = asyncio.Semaphore(MAX_ATTACHING)
        self._tasks: list[asyncio.Task[None]] = []
        self._redis_offset_ms: float | None = None

    def start(self) -> None:
        self._tasks = [vital(self._read()), vital(self._audit())]

    async def stop(self) -> None:
        await end([*self._tasks, *self._attaches])
        await self._client.aclose()

    @property
    def is_running(self) -> bool:
        return all(not task.done() for task in self._tasks)

    def open(self, delivery: Delivery) -> OpenStream:
        """Buffer what comes for this request from now on: before it is enqueued or attached."""
        stream = self._open[delivery.request] = OpenStream(delivery, self._clock)
        self._telemetry.set(OPEN_STREAMS, len(self._open))
        return stream

    def close(self, request: str) -> None:
        """Forget the request. Idempotent."""
        self._open.pop(request, None)
        self._telemetry.set(OPEN_STREAMS, len(self._open))

    def fail_all(self, error: ApiError) -> None:
        """Every open stream ends with this error."""
        for stream in list(self._open.values()):
            stream.put(error)

    def on_recreated(self) -> None:
        """Redis had forgotten the stream: read it from its beginning, and every journal."""
        self._cursor = "0-0"
        self._attach_all()

    async def _read(self) -> None:
        was_away = False
        while True:
            try:
                entries = await self._read_entries()
            except BusUnavailable as error:
                logger.warning("cannot read tokens: %s", error)
                was_away = True
                await asyncio.sleep(0.1)
                continue
            if was_away:
                was_away = False
                self._attach_all()
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
        try:
            stream.put(stream.delivery.receive(event, entry.committed_at or self._redis_now_ms()))
        except Gap:
            self._attach(stream)

    async def _audit(self) -> None:
        while True:
            await asyncio.sleep(0.5)
            for stream in list(self._open.values()):
                if stream.is_overdue():
                    self._attach(stream)

    def _attach_all(self) -> None:
        for stream in list(self._open.values()):
            self._attach(stream)

    def _attach(self, stream: OpenStream) -> None:
        # An attach under way may have read the journal before what is missing now was in it.
        stream.attach_again = stream.is_attaching
        if not stream.is_attaching:
            stream.is_attaching = True
            task = asyncio.create_task(self._heal(stream))
            self._attaches.add(task)
            task.add_done_callback(self._attaches.discard)

    async def _heal(self, stream: OpenStream) -> None:
        try:
            async with self._attach_slots:
                await self._heal_once(stream)
        finally:
            stream.is_attaching = False
        if stream.attach_again:
            self._attach(stream)

    async def _heal_once(self, stream: OpenStream) -> None:
        delivery = stream.delivery
        if self._open.get(delivery.request) is not stream or not stream.is_enqueued:
            return
        detached, asked_at = TOKENS.encode(terminal(delivery.request, "detached")), delivery.position
        call = scripts.attach(
            self._bus.keys,
            request=delivery.request,
            gateway=self._bus.gateway,
            position=asked_at,
            detached=detached,
        )
        try:
            journal = await self._bus.call(call)
        except BusUnavailable:
            return  # the audit asks again
        if journal.status == "MISSING":
            stream.put(_lost("Redis has forgotten this request"))
            return
        try:
            stream.put(delivery.heal(journal, self._redis_now_ms(), asked_at))
        except BrokenChain:
            stream.put(_lost("the tokens in Redis contradict those already sent"))
        except UnreadableMessage as error:
            stream.put(_lost(f"its last message is unreadable: {error}"))
        except ValueError as error:  # a journal entry that is no list of tokens
            stream.put(_lost(f"its journal is unreadable: {error}"))

    def _redis_now_ms(self) -> float:
        if self._redis_offset_ms is None:
            return time.time() * 1_000
        return self._clock() * 1_000 + self._redis_offset_ms


def _lost(reason: str) -> ApiError:
    return ApiError(500, f"The request was lost: {reason}", code="request_lost")
