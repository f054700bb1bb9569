"""Places at work that takes long, shared fairly: tenants take turns, each with its oldest first."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """``num_places`` at once. However much one tenant wants, another waits for one of its turns at most."""

    def __init__(self, num_places: int = 1) -> None:
        self._num_free = num_places
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()  # whose turn is next first

    @asynccontextmanager
    async def turn(self, tenant: str, patience_s: float | None = None) -> AsyncIterator[None]:
        """A place while the context lasts. Raises TimeoutError when it is not had within ``patience_s``."""
        if self._num_free:  # then nobody waits
            self._num_free -= 1
        else:
            await self._wait(tenant, patience_s)
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, tenant: str, patience_s: float | None) -> None:
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tenant, deque()).append(place)
        try:
            async with asyncio.timeout(patience_s):
                await place
        except BaseException:
            if place.done() and not place.cancelled():  # it came as its owner left
                self._pass_on()
            else:
                self._leave(tenant, place)
            raise

    def _leave(self, tenant: str, place: asyncio.Future[None]) -> None:
        self._waiting[tenant].remove(place)
        if not self._waiting[tenant]:
            del self._waiting[tenant]

    def _pass_on(self) -> None:
        if not self._waiting:
            self._num_free += 1
            return
        tenant, places = next(iter(self._waiting.items()))
        places.popleft().set_result(None)
        if places:
            self._waiting.move_to_end(tenant)
        else:
            del self._waiting[tenant]
