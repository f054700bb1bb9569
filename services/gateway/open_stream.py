"""One connection's end of a request: what was delivered, and what waits to be told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from services.gateway.delivery import Delivery, Delta
from services.gateway.errors import ApiError
from shared.records import Origin

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
        self.is_attached = False
        self.is_open = True
        self.is_left = False  # by this gateway: the request goes on for whoever takes it up elsewhere
        self.is_attaching = False
        self.attach_again = False
        self._clock = clock
        self._items: asyncio.Queue[Delta | ApiError] = asyncio.Queue()
        self._check_after_s = FIRST_CHECK_S
        self._heard = clock()
        self._missed: float | None = None  # since when Redis has held less than was delivered

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

    @property
    def has_next(self) -> bool:
        """Whether `next` would not wait."""
        return not self._items.empty()

    def put(self, item: Delta | ApiError | None) -> None:
        """Hand over what a delivery made; None is nothing new."""
        if item is not None:
            self._heard, self._check_after_s = self._clock(), FIRST_CHECK_S
            self._items.put_nowait(item)

    def leave(self, farewell: ApiError) -> None:
        """The last word of this gateway; what was handed over before it is still told."""
        self.is_left = True
        self._items.put_nowait(farewell)

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

    def found(self) -> None:
        """Redis holds all that was delivered."""
        self._missed = None

    def is_missed_for_long(self) -> bool:
        """Redis holds less than was delivered: whether it has had time enough to hear it from a verifier."""
        if self._missed is None:
            self._missed = self._clock()
        return self._clock() - self._missed >= RESTORE_AFTER_S
