"""The local stack: all services up together, watched, drained in order."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from cli.service import Service
from shared.errors import AdaServeError

# The gateway ends its streams while the ring still turns; the ring then ends from its head.
DRAIN_ORDER = (("gateway",), ("verifier",), ("drafter", "selector"))
READY_POLL_S = 0.05
STILL_WAITING_S = 10.0

Say = Callable[[str, str], None]


class Stack:
    """Supervises `services` until a signal or until one of them cannot be kept running.

    `watch` runs beside them; an AdaServeError it raises ends everything as well.
    """

    def __init__(
        self, services: Sequence[Service], say: Say, watch: Callable[[], Coroutine[Any, Any, None]] | None = None
    ) -> None:
        self._watch = watch
        self._services = {service.plan.name: service for service in services}
        self._say = say
        self._signals = 0
        self._stop = asyncio.Event()

    async def run(self, greet: Callable[[], Awaitable[None]]) -> int:
        """Start everything, call `greet` once all are ready, stay up. Returns the exit code.

        First SIGINT or SIGTERM drains, the second ends everything at once.
        """
        self._listen()
        supervisors = [asyncio.create_task(service.supervise()) for service in self._services.values()]
        watches = [asyncio.create_task(self._watch())] if self._watch is not None else []
        failed = asyncio.create_task(_first_failure([*supervisors, *watches]))
        opening = asyncio.create_task(self._open(greet))
        stopped = asyncio.create_task(self._stop.wait())
        await asyncio.wait([failed, stopped], return_when=asyncio.FIRST_COMPLETED)
        failure = failed.result() if failed.done() else None
        if failure is not None:
            self._say("up", str(failure))
        for task in (opening, stopped, *watches):
            task.cancel()
        await self._drain(supervisors)
        await asyncio.gather(opening, stopped, failed, *watches, *supervisors, return_exceptions=True)
        if not opening.cancelled():
            opening.result()  # raises what is a bug in it
        return 0 if failure is None else 1

    def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal)

    def _on_signal(self) -> None:
        self._signals += 1
        if self._signals == 1:
            self._say("up", "draining; press Ctrl-C again to end at once")
        else:
            for service in self._services.values():
                service.kill()
        self._stop.set()

    async def _open(self, greet: Callable[[], Awaitable[None]]) -> None:
        """A failed greeting is told, and everything stays up."""
        await asyncio.gather(*(self._until_ready(service) for service in self._services.values()))
        try:
            await greet()
        except AdaServeError as error:
            self._say("up", f"the first completion failed: {error}")

    async def _until_ready(self, service: Service) -> None:
        reminder = time.monotonic() + STILL_WAITING_S
        while not await service.is_ready():
            await asyncio.sleep(READY_POLL_S)
            if time.monotonic() >= reminder:
                self._say("up", f"still waiting for {service.plan.name}")
                reminder += STILL_WAITING_S

    async def _drain(self, supervisors: Sequence[asyncio.Task[None]]) -> None:
        tasks = dict(zip(self._services, supervisors, strict=True))
        for names in DRAIN_ORDER:
            present = [name for name in names if name in tasks]
            for name in present:
                self._services[name].terminate()
            await asyncio.gather(*(self._until_ended(name, tasks[name]) for name in present))

    async def _until_ended(self, name: str, task: asyncio.Task[None]) -> None:
        timeout_s = self._services[name].plan.drain_s
        _, pending = await asyncio.wait([task], timeout=timeout_s)
        if pending:
            self._say("up", f"{name} did not end within {timeout_s:.0f} s; killed")
            self._services[name].kill()
            await asyncio.wait([task])


async def _first_failure(tasks: Sequence[asyncio.Task[None]]) -> AdaServeError | None:
    """The first task to raise; a bug's exception goes on."""
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    for task in done:
        error = None if task.cancelled() else task.exception()
        if isinstance(error, AdaServeError):
            return error
        if error is not None:
            raise error
    return None
