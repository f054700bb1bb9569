"""`adaserve up` as its user sees it: a streamed completion, then up until Ctrl-C, and nothing left behind."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cli import ports
from tests.effort import heavy

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc; only Linux ends orphans")

ADASERVE = (sys.executable, "-c", "from cli.main import app; app()")
START_TIMEOUT_S = 90.0  # two processes import torch on however many cores are free


class Up:
    """A running `adaserve up`, its lines as they come."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process = process
        self.url = url
        self.said: list[str] = []
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)

    def until(self, part: str) -> None:
        """Read on until a line holds `part`."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.said or part not in self.said[-1]:
            try:
                self.said.append(self._lines.get(timeout=max(0.0, deadline - time.monotonic())))
            except queue.Empty:
                raise AssertionError("".join(self.said)) from None

    def children(self) -> list[int]:
        """Process ids of Redis and the services."""
        return [
            int(pid)
            for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        ]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextmanager
def up(**variables: str) -> Iterator[Up]:
    port = ports.any_free("127.0.0.1")
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("ADASERVE_", "REDIS_"))
    }
    process = subprocess.Popen(
        [*ADASERVE, "up", "--port", str(port)],
        env=environment | variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    running = Up(process, f"http://127.0.0.1:{port}")
    try:
        yield running
    finally:
        running.close()


def complete(url: str, *options: str) -> str:
    command = [*ADASERVE, "complete", "import os\n", "--url", url, "--temperature", "0.8", "--seed", "7", *options]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def is_alive(pid: int) -> bool:
    """Running, or waiting for a parent that is: a zombie is neither."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def all_end(pids: list[int]) -> bool:
    deadline = time.monotonic() + 20
    while any(is_alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(is_alive(pid) for pid in pids)


@pytest.mark.timeout(150)
def test_it_streams_a_completion_stays_up_and_drains() -> None:
    with up(ADASERVE_DTYPE="float64") as running:  # in float32 a near tie may fall either way
        running.until("first token")
        running.until("adaserve complete")
        assert complete(running.url) == complete(running.url, "--no-speculation")
        children = running.children()
        assert len(children) == 5
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(60) == 0
        assert all_end(children)


@heavy
@pytest.mark.timeout(150)
def test_a_killed_launcher_leaves_nothing_behind() -> None:
    with up() as running:
        running.until("first token")
        children = running.children()
        running.process.kill()
        assert all_end(children)


@pytest.mark.timeout(150)
def test_a_service_that_refuses_its_settings_ends_the_start() -> None:
    with up(ADASERVE_BUDGET="0") as running:
        assert running.process.wait(60) == 1
        running.until("selector cannot start with these settings")
        assert any("selector | adaserve: ADASERVE_BUDGET='0': " in line for line in running.said)
