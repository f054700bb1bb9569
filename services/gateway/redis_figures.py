"""How full Redis and the queues are, told by every gateway every ten seconds.

Redis being away is a figure too (`redis_up`), told without a word in the log: whoever needs Redis says so already.
Then the other figures stay as they were.
"""

from __future__ import annotations

import asyncio
from typing import Any

from services.gateway.bus import Bus
from shared import signals
from shared.errors import BusUnavailable
from shared.functions import Command
from shared.replies import text
from shared.telemetry import Telemetry
from shared.topics import NUM_TIERS, Keys

PERIOD_S = 10.0
FIRST = 64  # of a waiting list, in the order in which they will be served, among which the oldest is looked for
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
        keys, tiers = self._bus.keys, range(NUM_TIERS)
        streams = streams_of(keys)
        lengths: list[Command] = [("XLEN", stream) for stream in streams.values()]
        lengths += [("ZCARD", keys.waiting(tier)) for tier in tiers]
        memory, *replies = await self._bus.look([("INFO", "memory"), *lengths])
        self._tell_memory(memory)
        found = [reply if isinstance(reply, int) else 0 for reply in replies]
        for name, length in zip(streams, found, strict=False):
            self._telemetry.set(signals.STREAM_ENTRIES, length, stream=name)
        for tier in tiers:
            num_queued = found[tier] + found[len(streams) + tier]
            self._telemetry.set(signals.QUEUE_REQUESTS, num_queued, tier=str(tier))
            age_s = await self._oldest_s(tier) if num_queued else 0.0
            self._telemetry.set(signals.QUEUE_OLDEST, age_s, tier=str(tier))

    def _tell_memory(self, info: Any) -> None:
        """What this server tells of it, which may be less than Redis' own, or nothing."""
        for name, kind in MEMORY.items():
            size = info.get(name) if isinstance(info, dict) else None
            if isinstance(size, int):
                self._telemetry.set(signals.REDIS_MEMORY, size, kind=kind)

    async def _oldest_s(self, tier: int) -> float:
        """How long the oldest of a tier has waited, by Redis' clock; 0 where it has none that says so."""
        keys = self._bus.keys
        entries, listed = await self._bus.look(
            [
                ("XRANGE", keys.requests(tier), "-", "+", "COUNT", FIRST),
                ("ZRANGE", keys.waiting(tier), 0, FIRST - 1),
            ]
        )
        requests = [*_queued(entries), *_listed(listed)]
        asked: list[Command] = [("HGET", keys.request(name), "enqueued_ms") for name in requests]
        at, *since = await self._bus.look([("TIME",), *asked])
        known = [float(ms) for ms in since if isinstance(ms, bytes)]
        if not known or isinstance(at, Exception):
            return 0.0
        return max(0.0, float(at[0]) + float(at[1]) / 1e6 - min(known) / 1e3)


def streams_of(keys: Keys) -> dict[str, str]:
    """The streams whose entries are counted, by the name of their series; the tiers first."""
    tiers = {f"requests_{tier}": keys.requests(tier) for tier in range(NUM_TIERS)}
    return {
        **tiers, "released": keys.released, "dead": keys.dead, "select": keys.select, "control": keys.control
    }  # fmt: skip


def _queued(entries: Any) -> list[str]:
    """Requests that the entries of a tier's stream name."""
    if isinstance(entries, Exception):
        return []
    return [fields[b"body"].decode(errors="replace") for _, fields in entries if fields and b"body" in fields]


def _listed(members: Any) -> list[str]:
    return [] if isinstance(members, Exception) else [text(member) for member in members]
