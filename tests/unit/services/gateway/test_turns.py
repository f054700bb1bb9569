"""Places shared fairly."""

from __future__ import annotations

import asyncio

import pytest

from services.gateway.turns import Turns


class Workers:
    """Everybody works until told; ``served`` is the order in which they began."""

    def __init__(self, num_places: int = 1) -> None:
        self.turns = Turns(num_places)
        self.served: list[str] = []
        self._go_on = asyncio.Event()
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def add(self, name: str, patience_s: float | None = None) -> asyncio.Task[None]:
        """``name`` is a tenant's and a number, as ``a1``."""
        task = self._tasks[name] = asyncio.create_task(self._work(name, patience_s))
        await asyncio.sleep(0)
        return task

    async def _work(self, name: str, patience_s: float | None) -> None:
        async with self.turns.turn(name[0], patience_s):
            self.served.append(name)
            await self._go_on.wait()

    async def finish(self) -> list[str]:
        self._go_on.set()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        return self.served


async def test_a_tenant_with_much_to_do_lets_others_in_between() -> None:
    workers = Workers()
    for name in ("a1", "a2", "a3", "a4", "b1", "b2", "c1"):
        await workers.add(name)
    assert workers.served == ["a1"]
    assert await workers.finish() == ["a1", "a2", "b1", "c1", "a3", "b2", "a4"]


async def test_as_many_work_at_once_as_there_are_places() -> None:
    workers = Workers(2)
    for name in ("a1", "a2", "a3"):
        await workers.add(name)
    assert workers.served == ["a1", "a2"]
    await workers.finish()
    await workers.add("a4")
    assert await workers.finish() == ["a1", "a2", "a3", "a4"]


async def test_who_waits_too_long_is_told_and_takes_no_place() -> None:
    workers = Workers()
    await workers.add("a1")
    late = await workers.add("b1", patience_s=0.01)
    with pytest.raises(TimeoutError):
        await late
    await workers.add("b2")
    assert await workers.finish() == ["a1", "b2"]


async def test_who_leaves_passes_its_place_on() -> None:
    """While it waits, and in the moment in which it is given the place."""
    workers = Workers()
    first = await workers.add("a1")
    waiting, given = await workers.add("b1"), await workers.add("c1")
    await workers.add("d1")
    waiting.cancel()
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)  # a1 has passed its place on to c1, which has not run yet
    given.cancel()
    await asyncio.sleep(0.01)
    assert workers.served == ["a1", "d1"]
    await workers.add("a2")
    assert await workers.finish() == ["a1", "d1", "a2"]
