"""The kubelet's part: one pod from its first container to its last one's exit code."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from deploy.rehearsal.container import Container, Setup
from deploy.rehearsal.environment import Identity
from deploy.rehearsal.keeper import Keeper, Surroundings
from deploy.rehearsal.manifests import Document, RehearsalError
from deploy.rehearsal.network import Network

GRACE_S = 30.0  # Kubernetes' default

MakeSetup = Callable[[Document, int], Setup]
"""From a container of the spec and the number of its start."""


class Pod:
    """``note`` hears of what an operator would look into; ``remove`` is called at its end."""

    def __init__(
        self,
        identity: Identity,
        spec: Document,
        network: Network,
        make_setup: MakeSetup,
        note: Callable[[str], None],
        remove: Callable[[], None],
    ) -> None:
        self.identity = identity
        self.spec = spec
        self.annotations = dict(identity.annotations)
        self.failure: str | None = None  # why it can never run
        self.ready_since: float | None = None
        self.deleted_at: float | None = None
        self._network, self._make_setup, self._note, self._remove = network, make_setup, note, remove
        self._pause: asyncio.subprocess.Process | None = None
        self._initial: dict[str, int] = {}
        self._keepers = [self._keeper(container) for container in spec["containers"]]
        self._tasks: list[asyncio.Task[None]] = []
        self._ending: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        return self.identity.name

    @property
    def is_terminating(self) -> bool:
        return self.deleted_at is not None

    @property
    def is_ready(self) -> bool:
        """The condition: every container is, and it is not being deleted."""
        return not self.is_terminating and all(keeper.is_ready for keeper in self._keepers)

    @property
    def exits(self) -> dict[str, int]:
        """Codes of containers that were told to end, and of initial ones that have ended, by name."""
        ended = {keeper.name: keeper.exit_code for keeper in self._keepers}
        return self._initial | {name: code for name, code in ended.items() if code is not None}

    @property
    def ports(self) -> dict[str, int]:
        """Named ones of all containers."""
        return {port["name"]: int(port["containerPort"]) for port in self._ports() if "name" in port}

    @property
    def all_ports(self) -> set[int]:
        """Every port that its containers name, by number."""
        return {int(port["containerPort"]) for port in self._ports()}

    def _ports(self) -> list[Document]:
        return [port for container in self.spec["containers"] for port in container.get("ports", ())]

    @property
    def network_file(self) -> Path:
        """The kernel's list of its connections."""
        return Path(f"/proc/{0 if self._pause is None else self._pause.pid}/net/tcp")

    def _keeper(self, container: Document) -> Keeper:
        around = Surroundings(
            pod=self.name,
            address=self.identity.ip,
            ports=self.ports,
            grace_s=float(self.spec.get("terminationGracePeriodSeconds", GRACE_S)),
            is_terminating=lambda: self.is_terminating,
            changed=self._changed,
            note=self._note,
        )
        return Keeper(container, around, lambda number: self._create(container, number))

    def _changed(self) -> None:
        if not self.is_ready:
            self.ready_since = None
        elif self.ready_since is None:
            self.ready_since = time.monotonic()

    def start(self) -> None:
        """In the background."""
        self._tasks.append(asyncio.create_task(self._guarded(self._run())))

    async def _guarded(self, work: Awaitable[None]) -> None:
        try:
            await work
        except (RehearsalError, RuntimeError, OSError) as error:
            self.failure = f"{self.name}: {error}"
            self._note(self.failure)

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
        self._tasks += [asyncio.create_task(self._guarded(keeper.run())) for keeper in self._keepers]

    def _has_network(self) -> bool:
        """Whether the pause process has left the node's namespace."""
        assert self._pause is not None
        own, theirs = (Path(f"/proc/{pid}/ns/net").readlink() for pid in ("self", self._pause.pid))
        return own != theirs

    async def _initialise(self, spec: Document) -> None:
        """To its success. Raises RehearsalError when it fails: nothing that was rendered may need a second try."""
        container = await self._create(spec, 0)
        code = self._initial[spec["name"]] = await container.wait()
        if code:
            raise RehearsalError(f"init container {spec['name']} ended with {code}: {container.last_words()}")

    async def _create(self, spec: Document, number: int) -> Container:
        assert self._pause is not None
        container = Container(self._make_setup(spec, number), self._pause.pid)
        await container.start()
        return container

    def delete(self) -> asyncio.Task[None]:
        """Tell its containers to end. The task ends when the pod has."""
        if self._ending is None:
            self.deleted_at = time.monotonic()
            self.ready_since = None
            self._ending = asyncio.create_task(self._end())
        return self._ending

    async def _end(self) -> None:
        await asyncio.gather(*(keeper.stop() for keeper in self._keepers))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._pause is not None and self._pause.returncode is None:
            self._pause.kill()
            await self._pause.wait()
        self._remove()
