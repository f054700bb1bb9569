"""A Redis server that can be killed, stopped, cut and started again at the same address."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from shared.embedded_redis import die_with_parent, find_binary

READY_S = 10.0


class Server:
    """An append-only server in ``folder``, whose data may lie elsewhere (a small disk, say)."""

    def __init__(self, folder: Path, data: Path | None = None, **options: str) -> None:
        self.socket = folder / "r.sock"
        self.data = data or folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._log = (folder / "redis.log").open("ab")

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def client(self) -> Redis:
        return Redis(unix_socket_path=str(self.socket), protocol=2, socket_timeout=5)

    def start(self) -> None:
        """Raises RuntimeError when it does not answer."""
        directives = {
            "port": "0",
            "unixsocket": str(self.socket),
            "save": "",
            "dir": str(self.data),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
            **self._options,
        }
        words = [word for name, value in directives.items() for word in (f"--{name}", value)]
        self._process = subprocess.Popen(
            [find_binary(), *words],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent(signal.SIGTERM),
        )
        deadline = time.monotonic() + READY_S
        while not self._answers():
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise RuntimeError("the server does not answer")
            time.sleep(0.005)

    def _answers(self) -> bool:
        try:
            return bool(self.client().ping())
        except RedisError:
            return False

    def kill(self) -> None:
        """SIGKILL, as a crash."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """SIGSTOP, then SIGCONT."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._process.pid, signal.SIGCONT)

    def cut_file(self, num_bytes: int) -> int:
        """While it is dead, takes bytes off the end of its file, as a power loss does; returns how many."""
        (newest,) = sorted(self.data.glob("appendonlydir/*.incr.aof"))[-1:]
        size = newest.stat().st_size
        cut = min(num_bytes, size)
        os.truncate(newest, size - cut)
        return cut

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()
        self._log.close()
