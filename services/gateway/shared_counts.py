"""Counters that all gateways share, asked for without ever waiting long: Redis away means counting here, alone.

Alone, each gateway grants a tenant's whole limit: nothing is divided, since nobody knows among how many.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from limits.aio.storage import MemoryStorage, RedisStorage
from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError

from services.gateway.patience import within
from services.gateway.rate_limits import KEPT_S, Unit, Window
from shared import signals
from shared.errors import BusUnavailable
from shared.failures import bus_errors
from shared.streams import connect_async
from shared.telemetry import Telemetry
from shared.topics import Keys

logger = logging.getLogger(__name__)
T = TypeVar("T")

WAIT_S = 0.05  # for Redis, of one request at the door
ALONE_S = 1.0  # after that, nobody waits for so long


class Together:
    """Whether Redis is asked now. After an answer that did not come in time it is left alone for a second."""

    def __init__(self, telemetry: Telemetry, clock: Callable[[], float] = time.monotonic) -> None:
        self._telemetry = telemetry
        self._clock = clock
        self._alone_until: float | None = None
        telemetry.set(signals.LIMITS_LOCAL, 0)

    async def ask(self, question: Callable[[], Awaitable[T]]) -> T | None:
        """The answer; None where there is none, and the caller is to count by itself."""
        if self._alone_until is not None and self._clock() < self._alone_until:
            return None
        try:
            async with within(WAIT_S):
                with bus_errors():
                    answer = await question()
        except (BusUnavailable, RedisError, TimeoutError) as error:  # whatever it is, no request fails for it
            self._leave(error)
            return None
        self._return()
        return answer

    def _leave(self, error: Exception) -> None:
        if self._alone_until is None:
            reason = str(error) or f"no answer within {WAIT_S:g} s"
            logger.warning("tenants' limits are counted by this gateway alone: Redis is away (%s)", reason)
            self._telemetry.set(signals.LIMITS_LOCAL, 1)
        self._alone_until = self._clock() + ALONE_S

    def _return(self) -> None:
        if self._alone_until is not None:
            logger.warning("tenants' limits are counted by all gateways together again")
            self._telemetry.set(signals.LIMITS_LOCAL, 0)
        self._alone_until = None


class Spending:
    """Requests and tokens of each tenant in each minute, in Redis; and what this gateway has added, here."""

    def __init__(self, url: str, keys: Keys, together: Together) -> None:
        self._together = together
        self._pool: ConnectionPool = connect_async(url).connection_pool
        # The address is that of the pool; this one only names the kind of server.
        self._all = RedisStorage(
            "async+redis://",
            implementation="redispy",
            key_prefix=keys.spent,
            connection_pool=self._pool,  # type: ignore[arg-type]
        )
        self._own = MemoryStorage()

    async def add(self, unit: Unit, tenant: str, window: Window, amount: int) -> int:
        """How much of it is used in this minute then. A negative amount gives back."""
        name = f"{unit}:{tenant}:{window.minute}"
        own = await self._own.incr(name, KEPT_S, amount)
        used = await self._together.ask(lambda: self._all.incr(name, KEPT_S, amount))
        return own if used is None else used

    async def stop(self) -> None:
        await self._pool.disconnect()
