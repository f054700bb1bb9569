"""How full Redis and the queues are, told by every gateway every ten seconds.

Redis being away is a figure too (`redis_up`), told without a word in the log: whoever needs Redis says so already.
Then the other figures stay as they were.
"""

from __future__ import annotations

import asyncio
from typing import Any

from services.gateway import waiting
from services.gateway.bus import Bus
from shared import signals
from shared.errors import BusUnavailable
from shared.functions import Command
from shared.telemetry import Telemetry
from shared.topics import NUM_TIERS, Keys

PERIOD_S = 10.0
MEMORY = {"used_memory": "used", "maxmemory": "max"}


class RedisFigures:
    """Reads the figures of one cell's Redis into metrics."""

    def __init__(self, bus: Bus, telemetry: Telemetry) -> None:
        self._bus = bus
        self._telemetry = telemetry

    async def watch(self) -> None:
        """For ever."""
        while True:
            await self.look()
            await asyncio.sleep(PERIOD_S)

    async def look(self) -> None:
        """Once; never raises because of Redis."""
        try:
            await self._tell()
        except BusUnavailable:
            self._telemetry.set(signals.REDIS_UP, 0)
        else:
            self._telemetry.set(signals.REDIS_UP, 1)

    async def _tell(self) -> None:
        streams = streams_of(self._bus.keys)
        lengths: list[Command] = [("XLEN", stream) for stream in streams.values()]
        memory, *replies = await self._bus.read([("INFO", "memory"), *lengths], raises=False)
        self._tell_memory(memory)
        for name, reply in zip(streams, replies, strict=True):
            length = reply if isinstance(reply, int) else 0
            self._telemetry.set(signals.STREAM_ENTRIES, length, stream=name)
        for tier, found in enumerate(await waiting.look(self._bus)):
            self._telemetry.set(signals.QUEUE_REQUESTS, found.num_requests, tier=str(tier))
            self._telemetry.set(signals.QUEUE_OLDEST, found.oldest_s, tier=str(tier))

    def _tell_memory(self, info: Any) -> None:
        """What this server tells of it, which may be less than Redis' own, or nothing."""
        for name, kind in MEMORY.items():
            size = info.get(name) if isinstance(info, dict) else None
            if isinstance(size, int):
                self._telemetry.set(signals.REDIS_MEMORY, size, kind=kind)


def streams_of(keys: Keys) -> dict[str, str]:
    """The streams whose entries are counted, by the name of their series; the tiers first."""
    tiers = {f"requests_{tier}": keys.requests(tier) for tier in range(NUM_TIERS)}
    return {
        **tiers, "released": keys.released, "dead": keys.dead, "select": keys.select, "control": keys.control
    }  # fmt: skip
