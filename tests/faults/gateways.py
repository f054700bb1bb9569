"""Gateways and their clients on event loops that the world turns and whose clock is the world's."""

from __future__ import annotations

import asyncio
from asyncio import events
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from services.gateway.bus import Bus
from services.gateway.completion import Completion, Parts
from services.gateway.errors import ApiError
from services.gateway.form import Form
from services.gateway.reaper import reap
from services.gateway.resumption import Resumption
from services.gateway.slo import Slo
from services.gateway.streams import Streams
from services.gateway.submission import Asked, Choice, Submission
from services.gateway.tasks import vital
from services.gateway.terms import Bounds, Terms
from shared import digest
from shared.heartbeat import Heartbeat
from shared.messages import Request
from shared.streams import OwnedStream
from shared.telemetry import Telemetry
from shared.tokenizer import Tokenizer
from tests.faults.clients import Body, Client
from tests.faults.world import World

LOOP_ROUNDS = 4
QUEUE_LIMIT = 1000


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop without files: timers go by the world's clock, and it never waits.

    A turn may happen inside another loop's turn, whose process is suspended there.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self._clock = clock
        self._selector = _NoFiles()

    def time(self) -> float:
        return self._clock()

    def turn(self) -> None:
        """One round: what is ready, and timers that are due."""
        outer = events._get_running_loop()
        events._set_running_loop(self)
        try:
            self._run_once()
        finally:
            events._set_running_loop(outer)

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


class TableSubmission(Submission):
    """The real one behind the door: the simulation's requests are already checked and tokenized."""

    def __init__(self, gateway: GatewayProcess, parts: Parts, resumption: Resumption) -> None:
        nothing: Any = None
        super().__init__(
            parts,
            nothing,
            resumption,
            nothing,
            nothing,
            model="table",
            limits=lambda: nothing,
            max_inspected=1,
        )
        self._gateway = gateway

    async def _prepare(self, choice: Choice, asked: Asked) -> Completion:
        body: Any = asked.body
        return self._gateway.completion(
            replace(body.request, request=choice.request), asked.body_digest, body.is_resumable
        )


class GatewayProcess:
    """The gateway's streams and bus, and clients that ask through it."""

    is_slow_to_answer = False

    def __init__(
        self,
        world: World,
        name: str,
        telemetry: Telemetry,
        tokenizer: Tokenizer,
        mishaps: list[str],
        grace_s: float,
    ) -> None:
        self.world, self.name = world, name
        self.loop = VirtualLoop(world.clock_s)
        self.loop.set_exception_handler(lambda _, context: mishaps.append(str(context.get("exception"))))
        self._telemetry = telemetry
        self.is_alive, self.is_suspended, self.has_begun = True, False, False
        self.may_crash = self.may_sleep = world.num_crashes < world.dice.odds.max_crashes
        world.gateways[name] = self
        self.bus = Bus(name, world.keys, name)
        self.streams = Streams(name, self.bus, telemetry, clock=world.clock_s)
        fleet: Any = Everywhere()
        self._parts = Parts(self.bus, self.streams, fleet, telemetry, tokenizer, patience_s=1e9, grace_s=grace_s)
        self._resumption = Resumption(self._parts)
        self._submission = TableSubmission(self, self._parts, self._resumption)
        self.heartbeat: Heartbeat | None = Heartbeat(
            "",
            world.keys,
            "gateway",
            name,
            lambda: {"model": "table"},
            [OwnedStream(world.keys.tokens(name))],
            on_recreated=lambda _: self.loop.call_soon(self.streams.on_recreated) and None,
            clock=world.clock_s,
        )
        self.loop.call_soon(self.streams.start)
        self.loop.call_soon(lambda: vital(reap(self.bus)) and None)

    def turn(self) -> None:
        for _ in range(LOOP_ROUNDS):
            if self.is_alive:
                self.loop.turn()

    def ask(self, client: Client) -> None:
        """A connection: the first one, or the next."""
        client.gateway = self
        client.task = self.loop.create_task(self._serve(client))

    async def _serve(self, client: Client) -> None:
        try:
            completion = await self._open(client)
        except ApiError as error:
            client.refused(error, self.world.now_ms)
            return
        client.opened(completion.request)
        try:
            async for piece in completion.pieces(1e9):
                if piece is not None:
                    client.take(piece, bytes(completion._delivery.logprobs), completion.drafted(piece))
            client.ends.append(str(completion.finish_reason))
        except ApiError as error:
            client.failed(error)
        finally:
            completion.close()

    async def _open(self, client: Client) -> Completion:
        request = client.request
        if client.key is None and client.is_told:
            return await self._resumption.resume(request.tenant, request.request, client.last_event, None)
        body: Any = Body(request, client.is_resumable or client.key is not None)
        asked = Asked(
            body=body,
            terms=Terms(
                tenant=request.tenant, slo=Slo(request.tpot_ms, request.ttft_ms), bounds=Bounds(QUEUE_LIMIT)
            ),
            traceparent=None,
            arrived=self.world.clock_s(),
            body_digest="" if client.key is None else "the same",
        )
        if client.key is not None:
            answer = await self._submission.submit_once(client.key, asked)
        else:
            answer = await self._submission.submit(asked)
        return answer.completions[0]

    def completion(self, request: Request, body_digest: str, is_resumable: bool) -> Completion:
        return Completion(
            request,
            Form(
                endpoint="completions", model="table", created=0, resumable=is_resumable, body_digest=body_digest
            ),
            self._parts,
            digest=digest.extend(digest.EMPTY, request.prompt.tolist()),
            arrived=self.world.clock_s(),
            span=self._telemetry.request(None, "gateway.request"),
            traceparent=None,
            clock=self.world.clock_s,
        )

    def close(self) -> None:
        """The run is over."""
        for _ in range(LOOP_ROUNDS):
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.loop.turn()
        self.loop.close()
