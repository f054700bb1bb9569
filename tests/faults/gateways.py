"""Gateways and their clients on an event loop that the world turns and whose clock is the world's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from services.gateway.bus import Bus
from services.gateway.completion import Completion, Parts
from services.gateway.errors import ApiError
from services.gateway.form import Form
from services.gateway.streams import Streams
from shared import digest
from shared.heartbeat import Heartbeat
from shared.messages import Request
from shared.streams import OwnedStream
from shared.telemetry import Telemetry
from shared.tokenizer import Tokenizer
from tests.faults.wire import Wire
from tests.faults.world import World

LOOP_ROUNDS = 4


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop without files: timers go by the world's clock, and it never waits."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self._clock = clock
        self._selector = _NoFiles()

    def time(self) -> float:
        return self._clock()

    def turn(self) -> None:
        """One round: what is ready, and timers that are due."""
        self.call_soon(self.stop)
        self.run_forever()

    def _process_events(self, event_list: Any) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nobody else calls in."""


class _NoFiles:
    def select(self, timeout: float | None) -> list[Any]:
        return []


class Everywhere:
    """A fleet with verifiers in it: giving up for want of one is not what is simulated."""

    silent_s = 0.0


@dataclass
class Client:
    """What one client has got: tokens in order, and how it ended."""

    request: Request
    tokens: list[int] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)
    error: str = ""
    task: asyncio.Task[None] | None = None
    has_left: bool = False

    @property
    def is_done(self) -> bool:
        return self.task is not None and self.task.done()


class GatewayProcess:
    """The gateway's streams and bus, and clients that ask through it."""

    may_crash = may_sleep = is_slow_to_answer = False

    def __init__(
        self, world: World, name: str, loop: VirtualLoop, telemetry: Telemetry, tokenizer: Tokenizer
    ) -> None:
        self.world, self.name, self._loop = world, name, loop
        self._telemetry = telemetry
        self.wire = Wire(world, self)
        self.is_alive, self.is_suspended, self.has_begun = True, False, False
        self.bus = Bus("", world.keys, name)
        self.streams = Streams("", self.bus, telemetry, clock=world.clock_s)
        fleet: Any = Everywhere()
        self._parts = Parts(self.bus, self.streams, fleet, telemetry, tokenizer, patience_s=1e9, grace_s=1.0)
        self.heartbeat: Heartbeat | None = Heartbeat(
            "",
            world.keys,
            "gateway",
            name,
            lambda: {"model": "table"},
            [OwnedStream(world.keys.tokens(name))],
            on_recreated=lambda _: loop.call_soon(self.streams.on_recreated) and None,
            clock=world.clock_s,
        )
        loop.call_soon(self.streams.start)

    def turn(self) -> None:
        for _ in range(LOOP_ROUNDS):
            self._loop.turn()

    def ask(self, client: Client) -> None:
        client.task = self._loop.create_task(self._serve(client))

    async def _serve(self, client: Client) -> None:
        completion = self._completion(client.request)
        try:
            await completion.enqueue(1000)
            async for piece in completion.pieces(1e9):
                if piece is not None:
                    client.tokens += piece.tokens
            client.ends.append(str(completion.finish_reason))
        except ApiError as error:
            client.ends.append(error.code)
            client.error = str(error)
        finally:
            completion.close()

    def _completion(self, request: Request) -> Completion:
        return Completion(
            request,
            Form(endpoint="completions", model="table", created=0),
            self._parts,
            digest=digest.extend(digest.EMPTY, request.prompt.tolist()),
            arrived=self.world.clock_s(),
            span=self._telemetry.request(None, "gateway.request"),
            traceparent=None,
            clock=self.world.clock_s,
        )
