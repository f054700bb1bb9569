"""How long a peer may be silent, told apart from how long this process itself was held up."""

from __future__ import annotations

import asyncio
from types import TracebackType

TICKS = 8


class within:  # noqa: N801 - used like asyncio.timeout
    """``async with within(seconds)``: raises TimeoutError where the enclosed has waited so long for others.

    ``asyncio.timeout`` counts the time in which the process did not run: after a pause longer than its timeout (a
    collection of garbage, a container out of its CPU share) every call under way fails, though its answer is
    there to be read. Here the time is counted in ticks of the loop's own, and a late tick counts once.
    """

    def __init__(self, seconds: float) -> None:
        self._tick_s = seconds / TICKS
        self._ticks_left = TICKS
        self._limit = asyncio.timeout(None)
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> None:
        await self._limit.__aenter__()
        self._wait()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await self._limit.__aexit__(kind, error, trace)

    def _wait(self) -> None:
        self._timer = self._loop.call_later(self._tick_s, self._tick)

    def _tick(self) -> None:
        self._ticks_left -= 1
        if self._ticks_left:
            self._wait()
        else:
            self._limit.reschedule(self._loop.time())
