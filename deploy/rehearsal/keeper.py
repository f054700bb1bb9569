"""One container of a pod: started, probed, started again when it ends, and told to end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from deploy.rehearsal.container import Container
from deploy.rehearsal.manifests import Document, RehearsalError
from deploy.rehearsal.probes import Probe, Streak, ask

LEAST_AFTER_PRESTOP_S = 2.0  # however long preStop took
BACK_OFF_S = 10.0  # before a container that has failed is started again; it doubles, up to five minutes
MAX_BACK_OFF_S = 300.0
_KINDS = ("startupProbe", "readinessProbe", "livenessProbe")


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a keeper needs of its pod. ``changed`` is called when the container became ready or is not any more."""

    pod: str
    address: str
    ports: Mapping[str, int]
    grace_s: float
    is_terminating: Callable[[], bool]
    changed: Callable[[], None]
    note: Callable[[str], None]


class Keeper:
    """``create`` starts the container for the n-th time. Raises RehearsalError for a probe of no port."""

    def __init__(
        self, spec: Document, around: Surroundings, create: Callable[[int], Awaitable[Container]]
    ) -> None:
        self.name = str(spec["name"])
        self.is_ready = False
        self.exit_code: int | None = None  # after it was told to end
        self._spec, self._around, self._create = spec, around, create
        self._probes = {kind: Probe.of(spec[kind]) for kind in _KINDS if kind in spec}
        for probe in self._probes.values():
            probe.check(around.ports)
        self._container: Container | None = None
        self._starting = asyncio.Lock()

    async def run(self) -> None:
        """Until the pod is deleted. Raises RehearsalError where the container cannot be created."""
        pause_s = BACK_OFF_S
        for number in range(1_000):
            async with self._starting:
                if self._around.is_terminating():
                    return
                container = self._container = await self._create(number)
            watching = asyncio.create_task(self._watch(container))
            code = await container.wait()
            watching.cancel()
            self._turn(is_ready=False)
            if self._around.is_terminating():
                return
            self._note(f"ended by itself with {code}: {container.last_words(300)}")
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, MAX_BACK_OFF_S)

    async def stop(self) -> None:
        """preStop, SIGTERM, and SIGKILL when the grace period is over. Returns when it has ended."""
        async with self._starting:
            container = self._container
        if container is None:
            return
        ends_at = time.monotonic() + self._around.grace_s
        hook = self._spec.get("lifecycle", {}).get("preStop")
        if hook is not None and container.exit_code is None:
            await self._run_hook(hook, container, ends_at - time.monotonic())
        container.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(max(LEAST_AFTER_PRESTOP_S, ends_at - time.monotonic())):
                self.exit_code = await container.wait()
        except TimeoutError:
            self._note(f"outlived its grace period: SIGKILL. {container.last_words(300)}")
            container.signal(signal.SIGKILL)
            self.exit_code = await container.wait()

    async def _run_hook(self, hook: Mapping[str, Any], container: Container, grace_s: float) -> None:
        (kind,) = hook
        if kind == "sleep":
            await asyncio.sleep(min(grace_s, float(hook["sleep"]["seconds"])))
        elif kind == "exec":
            with contextlib.suppress(TimeoutError):
                if code := await container.execute(list(hook["exec"]["command"]), grace_s):
                    self._note(f"preStop ended with {code}: {container.last_words(300)}")
                return
            self._note("preStop took the whole grace period")
        else:
            raise RehearsalError(f"{self.name}: preStop {kind} is not supported")

    async def _watch(self, container: Container) -> None:
        """Startup first, then readiness and liveness side by side."""
        startup = self._probes.get("startupProbe")
        if startup is not None and not await self._has_started(startup, container):
            await self._kill("startup")
            return
        readiness, liveness = self._probes.get("readinessProbe"), self._probes.get("livenessProbe")
        if readiness is None:
            self._turn(is_ready=True)
        await asyncio.gather(
            *([] if readiness is None else [self._follow(readiness, container)]),
            *([] if liveness is None else [self._guard(liveness, container)]),
        )

    async def _has_started(self, probe: Probe, container: Container) -> bool:
        streak = Streak(probe, holds=False)
        async for is_good in self._answers(probe, container):
            streak.heard(is_good)
            if streak.has_spoken:
                break
        return streak.holds

    async def _follow(self, probe: Probe, container: Container) -> None:
        streak = Streak(probe, holds=False)
        async for is_good in self._answers(probe, container):
            streak.heard(is_good)
            self._turn(is_ready=streak.holds)

    async def _guard(self, probe: Probe, container: Container) -> None:
        streak = Streak(probe, holds=True)
        async for is_good in self._answers(probe, container):
            streak.heard(is_good)
            if self._around.is_terminating():
                return
            if not streak.holds:
                await self._kill("liveness")
                return

    async def _kill(self, probe: str) -> None:
        self._note(f"failed its {probe} probe and is ended")
        await self.stop()

    async def _answers(self, probe: Probe, container: Container) -> AsyncIterator[bool]:
        """One after the other, at the probe's period."""
        await asyncio.sleep(probe.delay_s)
        while True:
            began = time.monotonic()
            yield await ask(probe, self._around.address, self._around.ports, container.execute)
            await asyncio.sleep(max(0.0, probe.period_s - (time.monotonic() - began)))

    def _turn(self, *, is_ready: bool) -> None:
        if self.is_ready is not is_ready:
            self.is_ready = is_ready
            self._around.changed()

    def _note(self, text: str) -> None:
        self._around.note(f"{self._around.pod}: {self.name} {text}")
