"""The gateway's commands to Redis: few connections, a few tries, and cancels that go on until they arrive."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from redis.exceptions import WatchError

from services.gateway import history, stored
from services.gateway.delivery import terminal
from services.gateway.open_stream import OpenStream
from services.gateway.patience import within
from services.gateway.stored import Stored
from services.gateway.tasks import end
from shared import inspect_store, scripts
from shared.errors import BusUnavailable
from shared.failures import bus_errors
from shared.functions import Call, Command, acall, aload_library
from shared.messages import ControlEvent
from shared.mode_store import unpack_orders
from shared.modes import Mode, Order, Orders
from shared.replies import Attached, Cancelled, text
from shared.streams import broadcast, connect_async
from shared.topics import ARMS_TTL_S, AUDIT_MAXLEN, CONTROL, CONTROL_MAXLEN, TOKENS, Keys

logger = logging.getLogger(__name__)
T = TypeVar("T")

CALL_S = 0.9  # a hanging Redis fails its callers after so long, all tries together
MAX_TRIES = 3  # of a call that may be repeated (docs/protocol.md, Redis Streams rules)
MAX_COMMANDS = 64  # at once; each holds a connection
CANCEL_FOR_S = 60.0  # a cancel that Redis does not take for so long is given up
AGAIN_S = 1.0  # between its tries
USAGE_HOURS = 24  # read at a time
ATTACHMENTS_PER_MS = 1_000  # numbers fit into a double until the year 2255

Attachment = Callable[[], Awaitable[int | None]]
"""The number of a connection once Redis has answered; None when Redis certainly does not know it."""


class Bus:
    """Function calls of one gateway; every call may be repeated after a lost reply."""

    def __init__(self, url: str, keys: Keys, gateway: str) -> None:
        self.keys = keys
        self.gateway = gateway
        self._client = connect_async(url)
        self._slots = asyncio.Semaphore(MAX_COMMANDS)
        self._farewells: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Loads the function library. Raises BusUnavailable."""
        async with _in_time():
            await aload_library(self._client)

    async def stop(self) -> None:
        """Waits for cancels under way, then closes the connections."""
        if self._farewells:
            await asyncio.wait(self._farewells, timeout=2.0)
        await end(self._farewells)
        await self._client.aclose()

    async def call(self, request: Call[T]) -> T:
        """Runs one function, with tries. Raises BusUnavailable; the effect is then unknown."""
        async with _in_time():
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

    async def append_audit(self, line: bytes) -> None:
        """Add an event to the audit stream. Raises BusUnavailable; it may then be there or not."""
        await self._execute("XADD", self.keys.audit, "MAXLEN", "~", AUDIT_MAXLEN, "*", "event", line)

    async def audit(self, limit: int) -> list[bytes]:
        """The last events, oldest first. Raises BusUnavailable."""
        entries = await self._execute("XREVRANGE", self.keys.audit, "+", "-", "COUNT", limit)
        return [dict(fields).get(b"event", b"") for _, fields in reversed(entries)]

    async def inspected(self, request: str, after: str | None) -> list[Any]:
        """What was told of its iterations after an entry, for `inspect_store.entries`. Raises BusUnavailable."""
        found: list[Any] = await self._execute(*inspect_store.read(self.keys, request, after))
        return found

    async def read(self, commands: Sequence[Command], *, raises: bool = True) -> list[Any]:
        """Replies to commands in one write that may be repeated; without ``raises`` an error is its reply.

        Raises BusUnavailable.
        """
        async with _in_time():
            with bus_errors():
                async with self._slots, self._client.pipeline(transaction=False) as pipe:
                    for command in commands:
                        pipe.execute_command(*command)
                    replies: list[Any] = await pipe.execute(raise_on_error=raises)
        return replies

    async def look(self, commands: Sequence[Command]) -> list[Any]:
        """`read`, an error as an exception. Raises BusUnavailable, also where all are errors."""
        replies = await self.read(commands, raises=False)
        if all(isinstance(reply, Exception) for reply in replies):
            raise BusUnavailable(f"every command was refused: {replies[0]}")
        return replies

    async def rollout(self) -> bytes | None:
        """The stage of the rollout as it is stored. Raises BusUnavailable."""
        found: bytes | None = await self._execute("GET", self.keys.rollout)
        return found

    async def replace_rollout(self, before: bytes | None, after: bytes) -> bool:
        """Only if it is still what it was before; whether it was. Raises BusUnavailable."""
        key = self.keys.rollout
        async with _in_time():
            with bus_errors():
                async with self._slots, self._client.pipeline() as pipe:
                    try:
                        await pipe.watch(key)
                        if await pipe.get(key) != before:
                            return False
                        pipe.multi()  # type: ignore[no-untyped-call]
                        pipe.set(key, after)
                        await pipe.execute()
                    except WatchError:
                        return False
        return True

    async def count_arms(self, counts: Mapping[tuple[int, str], int]) -> None:
        """Add to the counts of a rollout's steps, by their beginning and name. Raises BusUnavailable."""
        if not counts:
            return
        async with _in_time():
            with bus_errors():
                async with self._slots, self._client.pipeline() as pipe:
                    for (since_ms, name), count in counts.items():
                        pipe.hincrby(self.keys.arms(since_ms), name, count)
                        pipe.expire(self.keys.arms(since_ms), ARMS_TTL_S)
                    await pipe.execute()

    async def arms(self, since_ms: int) -> dict[str, int]:
        """What has been counted since a step began. Raises BusUnavailable."""
        found: Any = await self._execute("HGETALL", self.keys.arms(since_ms))
        return {text(name): int(count) for name, count in found.items()}

    async def usage(self, hours: Sequence[str]) -> AsyncIterator[dict[str, dict[bytes, bytes]]]:
        """What was used in each of these hours, some of them at a time. Raises BusUnavailable."""
        for first in range(0, len(hours), USAGE_HOURS):
            some = hours[first : first + USAGE_HOURS]
            found = await self.read([("HGETALL", self.keys.usage(hour)) for hour in some])
            yield dict(zip(some, found, strict=True))

    async def history(self, request: str) -> list[Any]:
        """The values of `history.FIELDS`, None for those that are not there. Raises BusUnavailable."""
        found: list[Any] = await self._execute("HMGET", self.keys.request(request), *history.FIELDS)
        return found

    async def stored(self, request: str) -> Stored | None:
        """The request as Redis holds it. Raises BusUnavailable and UnreadableMessage."""
        return stored.unpack(await self._execute("HMGET", self.keys.request(request), *stored.FIELDS))

    def new_attachment(self) -> int:
        """Number of a connection: its own, and above those of earlier ones by the wall clock."""
        return int(time.time() * 1_000) * ATTACHMENTS_PER_MS + secrets.randbelow(ATTACHMENTS_PER_MS)

    async def attach(self, stream: OpenStream) -> Attached:
        """Take or keep the request, unless a later connection has it; its journal. Raises BusUnavailable."""
        delivery = stream.delivery
        call = scripts.attach(
            self.keys,
            request=delivery.request,
            gateway=self.gateway,
            position=delivery.position,
            detached=TOKENS.encode(terminal(delivery.request, "detached")),
            attachment=stream.origin.attachment,
        )
        return await self.call(call)

    async def cancel(self, request: str, **condition: Any) -> Cancelled:
        """End a request now, under a condition of `scripts.cancel`. Raises BusUnavailable."""
        event = TOKENS.encode(terminal(request, "cancelled"))
        done = await self.call(scripts.cancel(self.keys, request=request, event=event, **condition))
        # Of a request that Redis has forgotten, a verifier may still hold all it takes to restore it.
        if done in (Cancelled.OK, Cancelled.MISSING):
            await self._tell_verifiers(ControlEvent(kind="cancel", subject=request))
        return done

    def client_left(self, request: str, attachment: Attachment, grace_s: float | None) -> None:
        """In the background: cancel the request, or let it wait for its client for ``grace_s``.

        Either only if no other connection has it.
        """

        async def farewell(number: int) -> None:
            if grace_s is None:
                await self.cancel(request, connection=(self.gateway, number))
            else:
                call = scripts.leave(
                    self.keys,
                    request=request,
                    gateway=self.gateway,
                    attachment=number,
                    grace_ms=round(grace_s * 1_000),
                )
                await self.call(call)

        task = asyncio.create_task(self._insist(request, attachment, farewell))
        self._farewells.add(task)
        task.add_done_callback(self._farewells.discard)

    async def _insist(
        self, request: str, attachment: Attachment, farewell: Callable[[int], Awaitable[None]]
    ) -> None:
        number = await attachment()
        if number is None:
            return
        deadline = time.monotonic() + CANCEL_FOR_S
        while time.monotonic() < deadline:
            try:
                await farewell(number)
                return
            except BusUnavailable:
                await asyncio.sleep(AGAIN_S)
        logger.error("request %s could not be cancelled: Redis was away for %.0f s", request, CANCEL_FOR_S)

    async def cancel_overdue(self) -> None:
        """End the requests whose clients have not come back in time, whichever gateway they left.

        Raises BusUnavailable.
        """
        for request in await self.call(scripts.overdue(self.keys)):
            await self.cancel(request, only_overdue=True)

    async def _tell_verifiers(self, event: ControlEvent) -> None:
        body = CONTROL.encode(event)
        now_ms = time.time() * 1_000
        command = broadcast(self.keys.control, body, traceparent=None, now_ms=now_ms, maxlen=CONTROL_MAXLEN)
        await self._execute(*command)

    async def _execute(self, *command: Any) -> Any:
        async with _in_time():
            with bus_errors():
                async with self._slots:
                    return await self._client.execute_command(*command)  # type: ignore[no-untyped-call]


@asynccontextmanager
async def _in_time() -> AsyncIterator[None]:
    """Raises BusUnavailable where the enclosed takes longer than CALL_S."""
    try:
        async with within(CALL_S):
            yield
    except TimeoutError:
        raise BusUnavailable(f"no answer within {CALL_S:g} s") from None
