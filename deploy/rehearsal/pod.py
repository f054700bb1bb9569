"""The kubelet's part: one pod from its first container to its last one's exit code."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from deploy.rehearsal.container import Container, Setup
from deploy.rehearsal.environment import Identity
from deploy.rehearsal.manifests import Document, RehearsalError
from deploy.rehearsal.network import Network
from deploy.rehearsal.probes import Probe, Streak, ask

GRACE_S = 30.0  # Kubernetes' default
LEAST_AFTER_PRESTOP_S = 2.0  # however long preStop took
BACK_OFF_S = 10.0  # before a container that has failed is started again; it doubles, up to five minutes
MAX_BACK_OFF_S = 300.0

MakeSetup = Callable[[Document, int], Setup]
"""From a container of the spec and the number of its start."""


class Pod:
    """``notes`` hears of what an operator would have to look into; ``exits`` has codes by container."""

    def __init__(
        self,
        identity: Identity,
        spec: Document,
        network: Network,
        make_setup: MakeSetup,
        note: Callable[[str], None],
    ) -> None:
        self.identity = identity
        self.spec = spec
        self.annotations = dict(identity.annotations)
        self.exits: dict[str, int] = {}
        self.num_restarts = 0
        self.ready_since: float | None = None
        self.deleted_at: float | None = None
        self._ending: asyncio.Task[None] | None = None
        self._network, self._make_setup, self._note = network, make_setup, note
        self._pause: asyncio.subprocess.Process | None = None
        self._current: dict[str, Container] = {}
        self._ready: dict[str, bool] = {}
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def name(self) -> str:
        return self.identity.name

    @property
    def is_terminating(self) -> bool:
        return self.deleted_at is not None

    @property
    def is_ready(self) -> bool:
        """The condition: every container is, and it is not being deleted."""
        names = [container["name"] for container in self.spec["containers"]]
        return not self.is_terminating and all(self._ready.get(name) for name in names)

    @property
    def ports(self) -> dict[str, int]:
        """Named ones of all containers."""
        return {
            port["name"]: int(port["containerPort"])
            for container in self.spec["containers"]
            for port in container.get("ports", ())
            if "name" in port
        }

    @property
    def all_ports(self) -> set[int]:
        """Every port that its containers name, by number."""
        containers = self.spec["containers"]
        return {int(port["containerPort"]) for container in containers for port in container.get("ports", ())}

    @property
    def network_file(self) -> Path:
        """The kernel's list of its connections."""
        return Path(f"/proc/{0 if self._pause is None else self._pause.pid}/net/tcp")

    def start(self) -> None:
        """In the background."""
        self._tasks.append(asyncio.create_task(self._guarded(self._run())))

    async def _guarded(self, work: Any) -> None:
        try:
            await work
        except (RehearsalError, RuntimeError, OSError) as error:
            self._note(f"{self.name}: {error}")

    async def _run(self) -> None:
        self._pause = await asyncio.create_subprocess_exec(
            *("unshare", "--net", "--uts", "--ipc", "sh", "-c"),
            f"hostname {self.name[:63]} 2>/dev/null; exec sleep infinity",
        )
        while not self._has_network():  # noqa: ASYNC110 - the kernel tells nobody
            await asyncio.sleep(0.01)
        await self._network.join(self._pause.pid, self.identity.ip)
        for container in self.spec.get("initContainers", ()):
            await self._initialise(container)
        for container in self.spec["containers"]:
            self._tasks.append(asyncio.create_task(self._guarded(self._keep(container))))

    def _has_network(self) -> bool:
        """Whether the pause process has left the node's namespace."""
        assert self._pause is not None
        own, theirs = (Path(f"/proc/{pid}/ns/net").readlink() for pid in ("self", self._pause.pid))
        return own != theirs

    async def _initialise(self, spec: Document) -> None:
        """To its success. Raises RehearsalError when it fails: nothing that was rendered may need a second try."""
        container = await self._new_container(spec, 0)
        code = await container.wait()
        self.exits[spec["name"]] = code
        if code:
            raise RehearsalError(f"init container {spec['name']} ended with {code}: {container.last_words()}")

    async def _new_container(self, spec: Document, number: int) -> Container:
        assert self._pause is not None
        container = Container(self._make_setup(spec, number), self._pause.pid)
        self._current[spec["name"]] = container
        await container.start()
        return container

    async def _keep(self, spec: Document) -> None:
        """One container, started again whenever it ends, until the pod is deleted."""
        pause_s = BACK_OFF_S
        for number in range(1_000):
            container = await self._new_container(spec, number)
            watching = asyncio.create_task(self._guarded(self._watch(spec, container)))
            code = await container.wait()
            watching.cancel()
            self._set_ready(spec["name"], False)
            if self.is_terminating:
                return
            self.num_restarts += 1
            self._note(f"{self.name}: {spec['name']} ended by itself with {code}: {container.last_words(300)}")
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, MAX_BACK_OFF_S)

    async def _watch(self, spec: Document, container: Container) -> None:
        """Startup first, then readiness and liveness side by side."""
        probes = {kind: Probe.of(spec[kind]) for kind in _KINDS if kind in spec}
        if (startup := probes.get("startupProbe")) is not None and not await self._has_started(startup, container):
            self._note(f"{self.name}: {spec['name']} failed its startup probe and is killed")
            await self._stop(spec, container)
            return
        if "readinessProbe" not in probes:
            self._set_ready(spec["name"], True)
        await asyncio.gather(
            *(
                self._poll(spec, probes[kind], container, is_liveness=kind == "livenessProbe")
                for kind in ("readinessProbe", "livenessProbe")
                if kind in probes
            )
        )

    async def _has_started(self, probe: Probe, container: Container) -> bool:
        streak = Streak(probe, holds=False)
        async for is_good in self._answers(probe, container):
            streak.heard(is_good)
            if streak.has_spoken:
                break
        return streak.holds

    async def _poll(self, spec: Document, probe: Probe, container: Container, *, is_liveness: bool) -> None:
        streak = Streak(probe, holds=is_liveness)
        async for is_good in self._answers(probe, container):
            if is_liveness and self.is_terminating:
                return
            streak.heard(is_good)
            if not is_liveness:
                self._set_ready(spec["name"], streak.holds)
            elif not streak.holds:
                self._note(f"{self.name}: {spec['name']} failed its liveness probe and is killed")
                await self._stop(spec, container)
                return

    async def _answers(self, probe: Probe, container: Container) -> Any:
        """One after the other, at the probe's period."""
        await asyncio.sleep(probe.delay_s)
        while True:
            began = time.monotonic()
            yield await ask(probe, self.identity.ip, self.ports, container.execute)
            await asyncio.sleep(max(0.0, probe.period_s - (time.monotonic() - began)))

    def _set_ready(self, container: str, is_ready: bool) -> None:
        self._ready[container] = is_ready
        if not self.is_ready:
            self.ready_since = None
        elif self.ready_since is None:
            self.ready_since = time.monotonic()

    def delete(self) -> asyncio.Task[None]:
        """preStop, SIGTERM, and SIGKILL when the grace period is over. The task ends when the pod has."""
        if self._ending is None:
            self.deleted_at = time.monotonic()
            self.ready_since = None
            self._ending = asyncio.create_task(self._end())
        return self._ending

    async def _end(self) -> None:
        specs = {container["name"]: container for container in self.spec["containers"]}
        await asyncio.gather(
            *(self._stop(specs[name], one) for name, one in self._current.items() if name in specs)
        )
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._pause is not None and self._pause.returncode is None:
            self._pause.kill()
            await self._pause.wait()

    async def _stop(self, spec: Document, container: Container) -> None:
        ends_at = time.monotonic() + float(self.spec.get("terminationGracePeriodSeconds", GRACE_S))
        await container.created.wait()
        if (hook := spec.get("lifecycle", {}).get("preStop")) is not None and container.exit_code is None:
            await self._run_hook(spec["name"], hook, container, ends_at - time.monotonic())
        container.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(max(LEAST_AFTER_PRESTOP_S, ends_at - time.monotonic())):
                code = await container.wait()
        except TimeoutError:
            self._note(
                f"{self.name}: {spec['name']} outlived its grace period: SIGKILL. {container.last_words(300)}"
            )
            container.signal(signal.SIGKILL)
            code = await container.wait()
        self.exits[spec["name"]] = code

    async def _run_hook(self, name: str, hook: Mapping[str, Any], container: Container, grace_s: float) -> None:
        (kind,) = hook
        if kind == "sleep":
            await asyncio.sleep(min(grace_s, float(hook["sleep"]["seconds"])))
            return
        if kind != "exec":
            raise RehearsalError(f"{name}: preStop {kind} is not supported")
        with contextlib.suppress(TimeoutError):
            code = await container.execute(list(hook["exec"]["command"]), grace_s)
            if code:
                self._note(f"{self.name}: preStop of {name} ended with {code}: {container.last_words(300)}")
            return
        self._note(f"{self.name}: preStop of {name} took the whole grace period")


_KINDS = ("startupProbe", "readinessProbe", "livenessProbe")
