"""The rehearsal: install, load, roll out every Deployment, scale verifiers and drafters, uninstall."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from deploy.rehearsal.clients import Clients, Question, Seen
from deploy.rehearsal.edges import Edge
from deploy.rehearsal.environment import contents
from deploy.rehearsal.http_client import Connection
from deploy.rehearsal.manifests import RehearsalError, Render
from deploy.rehearsal.release import Release

ROLLED_OUT = ("verifier", "drafter", "selector", "gateway")
SCALED = ("verifier", "drafter")
SIZES = (1, 3, 1)
KEYS_S = 2.0  # until every gateway knows a new key


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """``hold_s``: how long load goes on undisturbed at first, and at each size. ``late_s``: news of endpoints."""

    num_clients: int = 6
    hold_s: float = 8.0
    late_s: float = 1.0


@dataclass
class Step:
    """One thing that was done, and what clients and pods made of it."""

    name: str
    seen: Seen
    took_s: float = 0.0
    exits: dict[str, int] = field(default_factory=dict)  # of containers that ended meanwhile, by pod/container


@dataclass
class Result:
    """``notes`` are of the node: what it had to restart, kill or give up. ``early`` are those of the install.

    A cluster starts everything at once, so a service may end and be started again until Redis is there.
    """

    steps: list[Step] = field(default_factory=list)
    early: list[str] = field(default_factory=list)
    install_s: float = 0.0
    notes: list[str] = field(default_factory=list)
    edges: set[Edge] = field(default_factory=set)
    num_costs: int = 0  # deletion costs that pods have told
    forbidden: set[Edge] = field(default_factory=set)  # of those, by the NetworkPolicies
    last_exits: dict[str, int] = field(default_factory=dict)  # of the uninstall

    @property
    def faults(self) -> list[str]:
        """Why the rehearsal has failed; nothing where it has not."""
        bad = [f"{step.name}: {line}" for step in self.steps for line in step.seen.damage]
        exits = {name: code for step in self.steps for name, code in step.exits.items()} | self.last_exits
        bad += [f"{name} ended with {code}" for name, code in exits.items() if code]
        bad += [f"no NetworkPolicy allows {edge}" for edge in self.forbidden]
        return bad + self.notes


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
        for kind in ROLLED_OUT:
            async with self._step(f"rollout of {kind}"):
                workload = self._release.workload(kind)
                workload.restart()
                await workload.settle()
        for kind in SCALED:
            for size in SIZES:
                await self._scale(kind, size)
        async with self._step("last streams"):
            await self._clients.stop()

    async def _scale(self, kind: str, size: int) -> None:
        workload = self._release.workload(kind)
        if workload.replicas != size:
            async with self._step(f"{kind}: {workload.replicas} to {size}"):
                workload.replicas = size
                await workload.settle()
        async with self._step(f"{kind}: {size}, held"):
            await asyncio.sleep(self._plan.hold_s)

    @asynccontextmanager
    async def _step(self, name: str) -> AsyncIterator[None]:
        before = self._exits()
        step = Step(name, self._clients.begin_step())
        began = time.monotonic()
        try:
            yield
        finally:
            step.took_s = time.monotonic() - began
            step.exits = {key: code for key, code in self._exits().items() if key not in before}
            self.result.steps.append(step)

    def _exits(self) -> dict[str, int]:
        return exits(self._release)


def exits(release: Release) -> dict[str, int]:
    """Of containers of deleted pods, by pod/container."""
    return {
        f"{pod.name}/{name}": code
        for workload in release.workloads
        for pod in workload.retired
        for name, code in pod.exits.items()
    }


async def rehearse(render: Render, folder: Path, plan: Plan, asked: Sequence[Question]) -> Result:
    """Raises RehearsalError where the release does not come up."""
    release = Release(render, folder, late_s=plan.late_s)
    try:
        began = time.monotonic()
        await release.install()
        install_s, early = time.monotonic() - began, list(release.notes)
        await asyncio.sleep(2 * plan.late_s)
        gateway = release.service("gateway")
        address = gateway.ip, gateway.port
        operator = bearer(admin_key(render))
        clients = Clients(address, bearer(await new_key(address, operator)), operator, plan.num_clients)
        rehearsal = Rehearsal(release, clients, plan)
        result = rehearsal.result
        try:
            await rehearsal.run(asked)
        except RehearsalError as error:  # what was seen until then is worth a report
            release.notes.append(str(error))
        before = exits(release)
    finally:
        await release.uninstall()
    result.last_exits = {key: code for key, code in exits(release).items() if key not in before}
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
