"""The rehearsal: install, load, roll out each Deployment, upgrade all at once, scale, uninstall."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.rehearsal.clients import Clients, Question
from deploy.rehearsal.environment import contents
from deploy.rehearsal.http_client import Connection
from deploy.rehearsal.manifests import RehearsalError, Render, component
from deploy.rehearsal.pod import Pod
from deploy.rehearsal.release import Release
from deploy.rehearsal.result import Result, Step
from shared.settings import EXIT_BUS_UNAVAILABLE

GATEWAY, REDIS = "gateway", "redis"
UPGRADE = "helm upgrade"
NO_REDIS = f"ended by itself with {EXIT_BUS_UNAVAILABLE}:"  # as also at the install, where Redis starts last
KEYS_S = 2.0  # until every gateway knows a new key


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """``hold_s``: how long load goes on undisturbed at first, and at each size. ``late_s``: news of endpoints.

    Components that are rolled out one after the other, and scaled through the ``sizes``.
    """

    num_clients: int = 6
    rolled_out: Sequence[str] = ("verifier", "drafter", "selector", GATEWAY)
    upgrades: bool = True
    scaled: Sequence[str] = ("verifier", "drafter")
    sizes: Sequence[int] = (1, 3, 1)
    hold_s: float = 8.0
    late_s: float = 1.0


class Rehearsal:
    """One release under load."""

    def __init__(self, release: Release, clients: Clients, plan: Plan) -> None:
        self.result = Result()
        self._release, self._clients, self._plan = release, clients, plan

    async def run(self, asked: Sequence[Question]) -> None:
        """Raises RehearsalError when something does not become what it should in time."""
        self._clients.start(itertools.cycle(asked))
        async with self._step("load alone"):
            await asyncio.sleep(self._plan.hold_s)
        for kind in self._plan.rolled_out:
            async with self._step(f"rollout of {kind}"):
                workload = self._release.workload(kind)
                workload.restart()
                await workload.settle()
        if self._plan.upgrades:
            await self._upgrade()
        for kind in self._plan.scaled:
            for size in self._plan.sizes:
                await self._scale(kind, size)
        async with self._step("last streams"):
            await self._clients.stop()

    async def _upgrade(self) -> None:
        """What `helm upgrade` does where every pod template has changed: no workload waits for another."""
        everything = self._release.workloads
        redis = [one for one in everything if component(one.document) == REDIS]
        among = ", Redis StatefulSet among it" if redis else ""
        async with self._step(f"{UPGRADE}: everything at once{among}", is_without_redis=bool(redis)):
            for workload in everything:
                workload.restart()
            await asyncio.gather(*(workload.settle() for workload in everything))
        async with self._step(f"{UPGRADE}, held"):  # streams that have seen it end here
            await asyncio.sleep(self._plan.hold_s)

    async def _scale(self, kind: str, size: int) -> None:
        workload = self._release.workload(kind)
        if workload.replicas != size:
            async with self._step(f"{kind}: {workload.replicas} to {size}"):
                workload.replicas = size
                await workload.settle()
        async with self._step(f"{kind}: {size}, held"):
            await asyncio.sleep(self._plan.hold_s)

    @asynccontextmanager
    async def _step(self, name: str, *, is_without_redis: bool = False) -> AsyncIterator[None]:
        """Each client may meet a gateway that leaves once, on a connection that it has kept."""
        before, notes = self._release.retired, self._release.notes
        num_notes = len(notes)
        step = Step(name, self._clients.begin_step())
        began = time.monotonic()
        try:
            yield
        finally:
            step.took_s = time.monotonic() - began
            ended = [pod for pod in self._release.retired if pod not in before]
            step.exits = exits(ended)
            num_left = sum(pod in ended for pod in self._release.workload(GATEWAY).retired)
            step.may_refuse = None if is_without_redis else num_left * self._plan.num_clients
            if is_without_redis:
                step.restarts = [note for note in notes[num_notes:] if NO_REDIS in note]
            self.result.steps.append(step)


def exits(pods: Iterable[Pod]) -> dict[str, int]:
    """Of their containers, by pod/container."""
    return {f"{pod.name}/{name}": code for pod in pods for name, code in pod.exits.items()}


async def rehearse(render: Render, folder: Path, plan: Plan, asked: Sequence[Question]) -> Result:
    """Raises RehearsalError where the release does not come up."""
    release = Release(render, folder, late_s=plan.late_s)
    try:
        began = time.monotonic()
        await release.install()
        install_s, early = time.monotonic() - began, list(release.notes)
        await asyncio.sleep(2 * plan.late_s)
        gateway = release.service(GATEWAY)
        address = gateway.ip, gateway.port
        operator = bearer(admin_key(render))
        clients = Clients(address, bearer(await new_key(address, operator)), operator, plan.num_clients)
        rehearsal = Rehearsal(release, clients, plan)
        result = rehearsal.result
        try:
            await rehearsal.run(asked)
        except RehearsalError as error:  # what was seen until then is worth a report
            release.notes.append(str(error))
        before = release.retired
    finally:
        await release.uninstall()
    result.last_exits = exits(pod for pod in release.retired if pod not in before)
    result.install_s, result.early, result.notes = install_s, early, release.notes[len(early) :]
    result.num_costs = release.api.num_changes
    result.edges, result.forbidden = release.edges.seen, release.edges.forbidden
    return result


def bearer(key: str) -> dict[str, str]:
    """The header that presents it."""
    return {"authorization": f"Bearer {key}"}


async def new_key(address: tuple[str, int], operator: Mapping[str, str]) -> str:
    """An API key, made as operators make one; good on every gateway when this returns. Raises RehearsalError."""
    connection = Connection(*address, operator)
    await connection.ask("POST", "/admin/keys", {"tenant": "default"})
    told = await connection.json()
    connection.close()
    if connection.status != 201:
        raise RehearsalError(f"POST /admin/keys: {connection.status} {told}")
    await asyncio.sleep(KEYS_S)
    return str(told["key"])


def admin_key(render: Render) -> str:
    """What the chart has generated."""
    for secret in render.of_kind("Secret"):
        if (found := contents(secret).get("admin-key")) is not None:
            return found.decode()
    return ""
