"""The gateway's commands to Redis: few connections, a few tries, and cancels that go on until they arrive."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from typing import Any, TypeVar

from services.gateway.delivery import terminal
from services.gateway.tasks import end
from shared import scripts
from shared.errors import BusUnavailable
from shared.failures import bus_errors
from shared.functions import Call, acall, aload_library
from shared.messages import ControlEvent
from shared.mode_store import unpack_orders
from shared.modes import Mode, Order, Orders
from shared.streams import broadcast, connect_async
from shared.topics import CONTROL, CONTROL_MAXLEN, TOKENS, Keys

logger = logging.getLogger(__name__)
T = TypeVar("T")

MAX_TRIES = 3  # of a call that may be repeated (docs/protocol.md, Redis Streams rules)
MAX_COMMANDS = 64  # at once; each holds a connection
CANCEL_FOR_S = 60.0  # a cancel that Redis does not take for so long is given up


class Bus:
    """Function calls of one gateway; every call may be repeated after a lost reply."""

    def __init__(self, url: str, keys: Keys, gateway: str) -> None:
        self.keys = keys
        self.gateway = gateway
        self._client = connect_async(url)
        self._slots = asyncio.Semaphore(MAX_COMMANDS)
        self._cancels: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Loads the function library. Raises BusUnavailable."""
        await aload_library(self._client)

    async def stop(self) -> None:
        """Waits for cancels under way, then closes the connections."""
        if self._cancels:
            await asyncio.wait(self._cancels, timeout=2.0)
        await end(self._cancels)
        await self._client.aclose()

    async def call(self, request: Call[T]) -> T:
        """Runs one function, with tries. Raises BusUnavailable; the effect is then unknown."""
        for tries in range(1, MAX_TRIES + 1):
            try:
                async with self._slots:
                    return await acall(self._client, request)
            except BusUnavailable:
                if tries == MAX_TRIES:
                    raise
            await asyncio.sleep((0.02 + secrets.randbelow(80) / 1_000) * tries)  # with jitter
        raise AssertionError("unreachable")

    async def can_write(self) -> bool:
        """Whether Redis takes writes now: neither away, read-only, full nor out of disk."""
        try:
            await self._execute("SADD", self.keys.members("gateway"), self.gateway)
        except BusUnavailable:
            return False
        return True

    async def orders(self) -> Orders:
        """Operators' modes by scope. Raises BusUnavailable and UnreadableMessage."""
        return unpack_orders(await self._execute("HGETALL", self.keys.modes))

    async def order(self, scope: str, order: Order) -> None:
        """Store a mode and wake every verifier; ``auto`` withdraws what was ordered. Raises BusUnavailable.

        The wake-up may be lost: verifiers read the orders once a second anyway.
        """
        if order.mode is Mode.AUTO:
            await self._execute("HDEL", self.keys.modes, scope)
        else:
            await self._execute("HSET", self.keys.modes, scope, order.pack())
        await self._tell_verifiers(ControlEvent(kind="mode", subject=""))

    def cancel(self, request: str, *, after: asyncio.Future[Any] | None = None) -> None:
        """Ends a request in the background, once ``after`` (its enqueue) is done."""
        task = asyncio.create_task(self._cancel(request, after))
        self._cancels.add(task)
        task.add_done_callback(self._cancels.discard)

    async def _cancel(self, request: str, after: asyncio.Future[Any] | None) -> None:
        if after is not None:
            await asyncio.wait([after])
        event = TOKENS.encode(terminal(request, "cancelled"))
        deadline = time.monotonic() + CANCEL_FOR_S
        while time.monotonic() < deadline:
            try:
                done = await self.call(scripts.cancel(self.keys, request=request, event=event))
                if done is scripts.Cancelled.OK:
                    await self._wake_verifiers(request)
                return
            except BusUnavailable:
                await asyncio.sleep(1.0)
        logger.error("request %s could not be cancelled: Redis was away for %.0f s", request, CANCEL_FOR_S)

    async def _wake_verifiers(self, request: str) -> None:
        await self._tell_verifiers(ControlEvent(kind="cancel", subject=request))

    async def _tell_verifiers(self, event: ControlEvent) -> None:
        body = CONTROL.encode(event)
        now_ms = time.time() * 1_000
        command = broadcast(self.keys.control, body, traceparent=None, now_ms=now_ms, maxlen=CONTROL_MAXLEN)
        await self._execute(*command)

    async def _execute(self, *command: Any) -> Any:
        with bus_errors():
            async with self._slots:
                return await self._client.execute_command(*command)  # type: ignore[no-untyped-call]
