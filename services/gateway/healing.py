"""What a connection does when events were lost: read the journal, and put it back where Redis has forgotten it.

A verifier at work on the request restores what it has committed, with its next commit. Only where none does, in
time, the gateway restores what it has delivered, and whoever claims the request goes on from there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import numpy as np

from services.gateway.bus import Bus
from services.gateway.delivery import Behind, BrokenChain, terminal
from services.gateway.errors import ApiError
from services.gateway.open_stream import OpenStream
from services.gateway.tasks import end
from shared import scripts
from shared.errors import BusUnavailable, UnreadableMessage
from shared.replies import Attached, ReseedStatus
from shared.scripts import Contradiction
from shared.signals import RESTORED
from shared.telemetry import Telemetry

logger = logging.getLogger(__name__)

MAX_ATTACHING = 32  # attaches at once


class Healing:
    """Attaches and restores in the background, never twice at once for one connection."""

    def __init__(self, bus: Bus, telemetry: Telemetry, now_ms: Callable[[], float]) -> None:
        self._bus = bus
        self._telemetry = telemetry
        self._now_ms = now_ms
        self._slots = asyncio.Semaphore(MAX_ATTACHING)
        self._tasks: set[asyncio.Task[None]] = set()

    async def stop(self) -> None:
        await end(self._tasks)

    async def join(self, stream: OpenStream) -> Attached:
        """Take the request over; its journal is handed to the stream. Raises BusUnavailable."""
        stream.is_attaching = True  # events that arrive before the answer leave a gap that is healed after it
        try:
            journal = await self._bus.attach(stream)
            if journal.status != "MISSING":
                stream.is_attached = True
                await self._receive(stream, journal, stream.start)
        finally:
            stream.is_attaching = False
        self._go_on(stream)
        return journal

    def heal(self, stream: OpenStream) -> None:
        """Read the journal soon."""
        # An attach under way may have read the journal before what is missing now was in it.
        stream.attach_again = stream.is_attaching
        if not stream.is_attaching:
            stream.is_attaching = True
            task = asyncio.create_task(self._heal(stream))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _go_on(self, stream: OpenStream) -> None:
        if stream.attach_again:
            self.heal(stream)

    async def _heal(self, stream: OpenStream) -> None:
        try:
            async with self._slots:
                if stream.is_open and stream.is_attached:
                    asked_at = stream.delivery.position
                    await self._receive(stream, await self._bus.attach(stream), asked_at)
        except BusUnavailable:
            pass  # the audit asks again
        finally:
            stream.is_attaching = False
        self._go_on(stream)

    async def _receive(self, stream: OpenStream, journal: Attached, asked_at: int) -> None:
        """Hand over what is new. Raises BusUnavailable where the journal has to be restored and cannot be."""
        delivery = stream.delivery
        if delivery.end is not None:
            return  # Redis may forget it now
        if stream.enqueued_ms is None:
            stream.enqueued_ms = journal.enqueued_ms
        if journal.status == "DETACHED":
            stream.put(delivery.receive(terminal(delivery.request, "detached"), self._now_ms()))
            return
        try:
            if journal.status == "MISSING":
                raise Behind
            for delta in delivery.heal(journal, self._now_ms(), asked_at):
                stream.put(delta)
            stream.found()
        except (Behind, BrokenChain) as reason:
            await self._recover(stream, journal, reason)
        except UnreadableMessage as error:
            stream.put(_lost(f"its last message is unreadable: {error}"))
        except ValueError as error:  # a journal entry that is no list of tokens
            stream.put(_lost(f"its journal is unreadable: {error}"))

    async def _recover(self, stream: OpenStream, journal: Attached, reason: Exception) -> None:
        """Redis holds something else than what the client has seen. Raises BusUnavailable."""
        if journal.terminal:
            stream.put(_lost("it ended in Redis with other tokens than those already sent"))
        elif isinstance(reason, BrokenChain):
            await self._restore(stream, Contradiction(journal.position, journal.digest))
        elif stream.is_missed_for_long():
            await self._restore(stream, None)

    async def _restore(self, stream: OpenStream, contradiction: Contradiction | None) -> None:
        """What the client has seen, back into Redis. Raises BusUnavailable."""
        delivery = stream.delivery
        call = scripts.reseed(
            self._bus.keys,
            request=delivery.request,
            origin=stream.origin,
            start=stream.start,
            position=delivery.position,
            digest=delivery.digest.hex(),
            tokens=np.array(delivery.tokens, "<u4").tobytes(),
            logprobs=bytes(delivery.logprobs),
            first_token_ms=delivery.first_ms,
            last_token_ms=delivery.last_ms,
            enqueued_ms=stream.queued_at(self._now_ms()),
            contradiction=contradiction,
        )
        answer = await self._bus.call(call)
        self._telemetry.add(RESTORED, status=answer.status.value)
        logger.warning("request %s: Redis had lost its journal; restoring it: %s", delivery.request, answer.status)
        if answer.status is ReseedStatus.OK:
            stream.found()
        else:
            stream.attach_again = True  # a verifier was faster


def _lost(reason: str) -> ApiError:
    return ApiError(500, f"The request was lost: {reason}", code="request_lost")
