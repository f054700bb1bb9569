"""How many requests of a tenant are under way on all gateways: each holds leases on its own, and renews them.

A lease ends by itself when its gateway has died. So `max_concurrent` never leaks, and counts a dead gateway's
requests for half a minute at most.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from services.gateway.bus import Bus
from services.gateway.shared_counts import Together
from shared import door_scripts
from shared.errors import BusUnavailable
from shared.functions import Call
from shared.topics import RUNNING_LEASE_MS

logger = logging.getLogger(__name__)

RENEW_S = RUNNING_LEASE_MS / 1_000 / 3
MAX_RENEWED = 1_000  # requests in one call

Later = Callable[[Awaitable[Any]], None]
"""Runs something in the background; it may fail for want of Redis."""


class Leases:
    """By tenant and request. Two connections of this gateway may have the same request, each with a hold."""

    def __init__(self, bus: Bus, together: Together, later: Later) -> None:
        self._bus = bus
        self._together = together
        self._later = later
        self._held: defaultdict[str, Counter[str]] = defaultdict(Counter)

    async def take(self, tenant: str, requests: Sequence[str], limit: int) -> bool:
        """All of them or none; whether there was room."""
        call = door_scripts.hold(self._bus.keys, tenant=tenant, requests=requests, limit=limit)
        answer = await self._together.ask(lambda: self._bus.call(call))
        alone = self.num_held(tenant) + len(requests) <= limit
        is_granted = alone if answer is None else answer.is_granted
        if is_granted:
            self._held[tenant].update(requests)
        elif answer is None:  # it may have been counted before the answer was lost
            self._let_go(tenant, requests)
        return is_granted

    def keep(self, tenant: str, request: str) -> None:
        """Of a request that was let in before, perhaps by another gateway: counted, never refused."""
        self._held[tenant][request] += 1
        self._later(self._bus.call(self._renewal(tenant, [request])))

    def drop(self, tenant: str, request: str, *, has_ended: bool) -> None:
        """This connection has it no more. Where it goes on, whoever takes it up renews its lease, or nobody."""
        held = self._held[tenant]
        held[request] -= 1
        if held[request] <= 0:
            del held[request]
            if has_ended:
                self._let_go(tenant, [request])
        if not held:
            del self._held[tenant]

    def num_held(self, tenant: str) -> int:
        """On this gateway."""
        return len(self._held[tenant]) if tenant in self._held else 0

    async def renew_for_ever(self) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            try:
                await self.renew()
            except BusUnavailable as error:
                logger.warning("leases of running requests cannot be renewed: %s", error)

    async def renew(self) -> None:
        """All that are held here. Raises BusUnavailable."""
        for tenant, held in list(self._held.items()):
            requests = list(held)
            for start in range(0, len(requests), MAX_RENEWED):
                await self._bus.call(self._renewal(tenant, requests[start : start + MAX_RENEWED]))

    def _renewal(self, tenant: str, requests: Sequence[str]) -> Call[door_scripts.Held]:
        return door_scripts.hold(self._bus.keys, tenant=tenant, requests=requests, limit=None)

    def _let_go(self, tenant: str, requests: Sequence[str]) -> None:
        self._later(self._bus.call(door_scripts.let_go(self._bus.keys, tenant=tenant, requests=requests)))
