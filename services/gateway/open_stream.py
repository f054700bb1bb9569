"""One connection's end of a request: what was delivered, and what waits to be told."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable

from services.gateway.delivery import Delivery, Delta
from services.gateway.errors import ApiError
from shared import signals
from shared.records import Origin
from shared.telemetry import is_sampled

FIRST_CHECK_S = 2.0  # of silence, then twice as long each time
LAST_CHECK_S = 30.0
RESTORE_AFTER_S = 0.75  # a live verifier, which may hold more than the client has seen, is faster


class OpenStream:
    """One request's deltas, in order, ending with a terminal one or an ApiError.

    ``origin`` is what has to be put back if Redis forgets the request; it holds the connection's number.
    ``is_attached`` tells whether Redis may know of it.
    """

    def __init__(self, delivery: Delivery, origin: Origin, clock: Callable[[], float]) -> None:
        self.delivery = delivery
        self.origin = origin
        self.start = delivery.position
        self.enqueued_ms: float | None = None  # Redis clock, once Redis has told it
        self.is_attached = False
        self.is_open = True
        self.is_left = False  # by this gateway: the request goes on for whoever takes it up elsewhere
        self.is_attaching = False
        self.attach_again = False
        self.is_traced = is_sampled(origin.traceparent)
        self._waits_ms: list[float] = []
        self._clock = clock
        self._items: deque[Delta | ApiError] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._check_after_s = FIRST_CHECK_S
        self._opened = self._heard = clock()
        self._missed: float | None = None  # since when Redis has held less than was delivered

    async def next(self, timeout_s: float) -> Delta | None:
        """The next delta, None when nothing came in time. Raises ApiError when the request has failed."""
        if not self._items:
            await self._wait(timeout_s)
        if not self._items:
            return None
        item = self._items.popleft()
        if isinstance(item, ApiError):
            raise item
        return item

    async def _wait(self, timeout_s: float) -> None:
        """One reader at a time. A future and a timer are a fraction of what a queue under a timeout costs."""
        loop = asyncio.get_running_loop()
        waiter = self._waiter = loop.create_future()
        timer = loop.call_later(max(0.0, timeout_s), _wake, waiter) if timeout_s != math.inf else None
        try:
            await waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()

    @property
    def has_next(self) -> bool:
        """Whether `next` would not wait."""
        return bool(self._items)

    def put(self, item: Delta | ApiError | None) -> None:
        """Hand over what a delivery made; None is nothing new."""
        if item is not None:
            self._heard, self._check_after_s = self._clock(), FIRST_CHECK_S
            self._hand_over(item)

    def _hand_over(self, item: Delta | ApiError) -> None:
        self._items.append(item)
        if self._waiter is not None:
            _wake(self._waiter)

    def waited(self, wait_ms: float) -> None:
        """An event of a traced request has come so long after its commit."""
        self._waits_ms.append(max(0.0, wait_ms))

    @property
    def waits(self) -> dict[str, float]:
        """How long events waited in the stream, on average and at most; nothing where nobody looks."""
        if not self._waits_ms:
            return {}
        mean_ms = sum(self._waits_ms) / len(self._waits_ms)
        return {signals.HOP_WAIT_MS: mean_ms, signals.MAX_HOP_WAIT_MS: max(self._waits_ms)}

    def leave(self, farewell: ApiError) -> None:
        """The last word of this gateway; what was handed over before it is still told."""
        self.is_left = True
        self._hand_over(farewell)

    def is_overdue(self) -> bool:
        """Whether the journal should be asked: after a silence, each time twice as long, or when it was lost."""
        now = self._clock()
        if self._missed is not None and now - self._missed >= RESTORE_AFTER_S:
            return True
        if now - self._heard < self._check_after_s:
            return False
        self._heard = now
        self._check_after_s = min(LAST_CHECK_S, 2 * self._check_after_s)
        return True

    def queued_at(self, redis_ms: float) -> float:
        """When it was enqueued, by Redis' clock, which is at `redis_ms`: as told, or when this gateway did it."""
        if self.enqueued_ms is not None:
            return self.enqueued_ms
        return redis_ms - (self._clock() - self._opened) * 1_000

    def found(self) -> None:
        """Redis holds all that was delivered."""
        self._missed = None

    def is_missed_for_long(self) -> bool:
        """Redis holds less than was delivered: whether it has had time enough to hear it from a verifier."""
        if self._missed is None:
            self._missed = self._clock()
        return self._clock() - self._missed >= RESTORE_AFTER_S


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
