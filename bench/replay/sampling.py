"""The services' figures every few seconds while a replay runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import httpx

from bench.replay.client import now_ms
from bench.replay.counters import NoMetrics, Samples, scrape
from bench.replay.recording import ServerSample
from bench.replay.series import Readings

EVERY_S = 2.0


@dataclass(slots=True)
class Sampled:
    """Grows while it is sampled. A service that does not answer is left out of that sample."""

    client: httpx.AsyncClient
    urls: Sequence[str]
    samples: list[ServerSample] = field(default_factory=list)
    _readings: Readings = field(default_factory=Readings)
    _start_ms: float = field(default_factory=now_ms)

    async def take(self) -> None:
        found: dict[str, Samples] = {}
        for url in self.urls:
            with suppress(NoMetrics):
                found[url] = await scrape(self.client, url)
        at_s = (now_ms() - self._start_ms) / 1_000
        self.samples.append(ServerSample(at_s=round(at_s, 3), values=self._readings.take(found)))


@asynccontextmanager
async def sampled(
    client: httpx.AsyncClient, urls: Sequence[str], every_s: float = EVERY_S
) -> AsyncIterator[Sampled]:
    """A sample at the start, every so often, and at the end."""
    found = Sampled(client, urls)

    async def repeat() -> None:
        while True:
            await asyncio.sleep(every_s)
            await found.take()

    await found.take()
    task = asyncio.create_task(repeat())
    try:
        yield found
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await found.take()
