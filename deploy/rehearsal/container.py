"""One container: a process in its own mount and pid namespace, within the pod's network."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.rehearsal.manifests import RehearsalError
from deploy.rehearsal.network import children, running
from deploy.rehearsal.sandbox import Mount, User, prepare_root, run_as, script

LOOK_S = 0.02
CREATE_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """All that a container is started with; ``files``, ``links`` and ``programs`` are its image's own."""

    name: str
    command: list[str]
    environment: dict[str, str]
    user: User
    workdir: str
    mounts: list[Mount]
    files: dict[str, str]
    links: dict[str, str]
    programs: dict[str, str]
    is_read_only: bool
    root: Path
    log: Path


class Container:
    """Started once; what restarts it makes another."""

    def __init__(self, setup: Setup, pause_pid: int) -> None:
        self.setup = setup
        self._pause_pid = pause_pid
        self._process: asyncio.subprocess.Process | None = None
        self._first = 0  # the pid, seen from here, of process 1 of its namespace
        self._is_killed = False

    async def start(self) -> None:
        """Returns when the command runs. Raises RehearsalError where it cannot be started."""
        setup = self.setup
        if not setup.root.exists():
            (setup.root / setup.workdir.lstrip("/")).mkdir(parents=True)
            prepare_root(setup.root, setup.mounts, setup.links, files=setup.files, programs=setup.programs)
        inside = run_as(setup.user, setup.workdir, setup.environment, setup.command)
        start = setup.root.with_suffix(".sh")
        start.write_text(script(setup.root, setup.mounts, is_read_only=setup.is_read_only, command=inside))
        start.chmod(0o700)
        with setup.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *("nsenter", "-t", str(self._pause_pid), "--net", "--uts", "--ipc"),
                *("unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", str(start)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        async with asyncio.timeout(CREATE_S):
            while self._process.returncode is None and not self._has_begun():  # noqa: ASYNC110 - the kernel tells nobody
                await asyncio.sleep(LOOK_S)
        if not self._first:
            raise RehearsalError(f"container {setup.name} could not be created: {self.last_words()}")

    def _has_begun(self) -> bool:
        """Whether the setup is over: then the process has the container's root, and soon its command."""
        assert self._process is not None
        for pid in children(running(), self._process.pid):
            if Path(f"/proc/{pid}/root").readlink() == self.setup.root:
                self._first = pid
                return True
        return False

    @property
    def exit_code(self) -> int | None:
        """As a shell tells it: 128 and more for a signal."""
        code = None if self._process is None else self._process.returncode
        if code is not None and self._is_killed:  # of which `unshare` tells nothing
            return 128 + signal.SIGKILL
        return 128 - code if code is not None and code < 0 else code

    async def wait(self) -> int:
        """Its exit code."""
        assert self._process is not None
        await self._process.wait()
        code = self.exit_code
        assert code is not None
        return code

    def signal(self, number: signal.Signals) -> None:
        """To the command alone; nothing where it has ended."""
        if self._process is not None and self._process.returncode is None and self._first:
            self._is_killed |= number == signal.SIGKILL
            os.kill(self._first, number)

    async def execute(self, command: Sequence[str], timeout_s: float) -> int:
        """A command beside it, as ``kubectl exec``. Raises TimeoutError, when the command has been killed."""
        setup = self.setup
        inside = run_as(setup.user, setup.workdir, setup.environment, command)
        with setup.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *("nsenter", "-t", str(self._first), "--mount", "--pid", "--net", "--uts", "--ipc", "--root"),
                *inside,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            async with asyncio.timeout(timeout_s):
                return await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise

    def last_words(self, num_bytes: int = 1500) -> str:
        """The end of what it has printed."""
        return self.setup.log.read_text(errors="replace")[-num_bytes:].strip() if self.setup.log.exists() else ""
