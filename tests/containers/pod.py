"""Containers of one network namespace, run by runc from images that buildah holds."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from deploy.docker.commands import output, run
from tests.containers.bundle import Container, write


@dataclass
class Pod:
    """Starts containers, tells of them, and takes all away at the end. Needs root."""

    folder: Path
    runtime: str
    _images: dict[str, str] = field(default_factory=dict)
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def image(self, name: str) -> tuple[Path, list[str], dict[str, str]]:
        """Root folder, entry point and environment of an image; the folder is a mount of its files."""
        working = output("buildah", "from", "--pull-never", name)
        self._images[name] = working
        told = json.loads(output("buildah", "inspect", "--type", "image", name))["OCIv1"]["config"]
        environment = dict(pair.split("=", 1) for pair in told.get("Env", []))
        return Path(output("buildah", "mount", working)), told.get("Entrypoint", []), environment

    def start(self, container: Container) -> int:
        """Its first process, as this machine numbers it."""
        folder = self.folder / container.name
        folder.mkdir()
        prepare(container)
        joined = None if not self._running else f"/proc/{self.pid(next(iter(self._running)))}/ns/net"
        write(replace(container, network=joined), folder)
        with (self.folder / f"{container.name}.log").open("wb") as log:
            self._running[container.name] = subprocess.Popen(
                [self.runtime, "run", "--bundle", str(folder), self._id(container.name)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        until(
            lambda: self._state(container.name) == "running",
            lambda: self._failure(container.name),
            patience_s=20.0,
        )
        return self.pid(container.name)

    def pid(self, name: str) -> int:
        """Of the container's first process."""
        return int(json.loads(output(self.runtime, "state", self._id(name)))["pid"])

    def inside(self, name: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Runs something in a container, as its user."""
        told = [self.runtime, "exec", self._id(name), *words]
        return subprocess.run(told, capture_output=True, text=True, check=False, timeout=60)

    def beside(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Runs something of this machine in the containers' network."""
        net = ("nsenter", f"--net=/proc/{self.pid(next(iter(self._running)))}/ns/net")
        return subprocess.run([*net, *words], capture_output=True, text=True, check=False, timeout=120)

    def log(self, name: str) -> str:
        """What it has printed."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def end(self, name: str, patience_s: float) -> int:
        """Its exit code after SIGTERM; SIGKILL when the patience is over."""
        process = self._running.pop(name)
        subprocess.run([self.runtime, "kill", self._id(name), "TERM"], check=False, capture_output=True)
        try:
            return process.wait(patience_s)
        except subprocess.TimeoutExpired:
            subprocess.run([self.runtime, "kill", self._id(name), "KILL"], check=False, capture_output=True)
            return process.wait()

    def close(self) -> None:
        """Nothing of it is left."""
        for name in list(reversed(self._running)):
            self.end(name, 5)
        for working in self._images.values():
            run("buildah", "rm", working)

    def _failure(self, name: str) -> str:
        return f"{name} did not start:\n{self.log(name)[-2000:]}"

    def _state(self, name: str) -> str:
        told = subprocess.run([self.runtime, "state", self._id(name)], capture_output=True, text=True, check=False)
        return str(json.loads(told.stdout)["status"]) if told.returncode == 0 else ""

    def _id(self, name: str) -> str:
        return f"adaserve-{self.folder.name}-{name}"


def prepare(container: Container) -> None:
    """Makes the places of mounts: runc cannot in a read-only root, and gives a tmpfs its folder's mode."""
    for inside in [*container.writable, *container.seen]:
        place = container.root / inside.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if inside in container.writable:
            place.mkdir(exist_ok=True)
            place.chmod(0o1777)
        elif container.seen[inside].is_dir():
            place.mkdir(exist_ok=True)
        else:
            place.touch()


def status_of(pid: int) -> Mapping[str, str]:
    """What the kernel says of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def until(holds: Callable[[], bool], failure: Callable[[], str], patience_s: float = 120.0) -> None:
    """Raises RuntimeError when it takes too long."""
    deadline = time.monotonic() + patience_s
    while not holds():
        if time.monotonic() > deadline:
            raise RuntimeError(failure())
        time.sleep(0.1)


def needed(*names: str) -> None:
    """Raises RuntimeError for a command that is not there."""
    for name in names:
        if shutil.which(name) is None:
            raise RuntimeError(f"{name} is not on PATH: apt install buildah runc mmdebstrap util-linux openssl")
