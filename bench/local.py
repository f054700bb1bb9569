"""A real local stack for benchmarks and end-to-end tests: Redis and the four services as separate processes.

Unlike `adaserve up` it restarts nothing: the caller kills and starts services as an experiment wants it.
"""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from bench.settings import inherited_environment
from shared.embedded_redis import EmbeddedRedis
from shared.heartbeat import live_members
from shared.streams import connect
from shared.topics import Keys

MODELS = Path(__file__).resolve().parent.parent / "models"
TARGET, DRAFT = str(MODELS / "target"), str(MODELS / "draft")
SERVICES = ("selector", "drafter", "verifier", "gateway")
CELL = "default"
READY_S = 120.0


@dataclass
class LocalStack:
    """``settings``: each service's ADASERVE_* variables without the prefix. ``environment``: others, for all.

    ``trees``: services that run from other source trees than this one, and where these are.
    """

    redis_url: str
    folder: Path
    settings: Mapping[str, Mapping[str, str]]
    environment: Mapping[str, str]
    ports: dict[str, int] = field(default_factory=dict)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    trees: dict[str, Path] = field(default_factory=dict)
    _logs: list[IO[bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Of the gateway."""
        return f"http://127.0.0.1:{self.ports['gateway']}"

    def start(self, name: str, module: str | None = None) -> None:
        """Start a service, or ``module`` in its place; a port it had before is kept."""
        self.ports.setdefault(name, free_port())
        variables = {"REDIS_URL": self.redis_url, "HTTP_PORT": str(self.ports[name]), **self.settings[name]}
        environment = {f"ADASERVE_{key}": value for key, value in variables.items()}
        tree = self.trees.get(name)
        if tree is not None:
            environment["PYTHONPATH"] = str(tree)
        log = (self.folder / f"{name}.log").open("ab")
        self._logs.append(log)
        self.processes[name] = subprocess.Popen(
            [sys.executable, "-m", module or f"services.{name}"],
            cwd=tree,
            env={**inherited_environment(), **self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )

    def kill(self, name: str) -> None:
        """SIGKILL, as a crash."""
        self.processes[name].kill()
        self.processes[name].wait()

    def restart(self, name: str, settings: Mapping[str, str]) -> None:
        """Kill a service and start it with other settings, on the port it had."""
        self.kill(name)
        self.settings = {**self.settings, name: settings}
        self.start(name)

    def log(self, name: str) -> str:
        """What a service has printed."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def wait_ready(self, *names: str) -> None:
        """Until /ready of the services answers 200. Raises RuntimeError with a service's last words."""
        deadline = time.monotonic() + READY_S
        for name in names:
            while not self.is_ready(name):
                if self.processes[name].poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{name} did not become ready:\n{self.log(name)[-2000:]}")
                time.sleep(0.05)

    def stop(self) -> None:
        """SIGTERM in the order gateway, verifier, others; SIGKILL for what does not end."""
        for name in ("gateway", "verifier", "drafter", "selector"):
            process = self.processes.get(name)
            if process is None or process.poll() is not None:
                continue
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for log in self._logs:
            log.close()

    def complete(
        self, body: Mapping[str, Any], port: int | None = None, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """One completion, not streamed; ``port`` of one of several gateways. Raises RuntimeError for a refusal."""
        url = self.url if port is None else f"http://127.0.0.1:{port}"
        request = urllib.request.Request(  # noqa: S310 - always our own http URL
            f"{url}/v1/completions",
            json.dumps({"model": "default", **body}).encode(),
            {"content-type": "application/json", **(headers or {})},
        )
        try:
            with urllib.request.urlopen(request, timeout=300) as response:  # noqa: S310
                answer: dict[str, Any] = json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                raise RuntimeError(f"{error.code}: {error.read().decode()[:500]}") from None
        return answer

    def get(self, path: str) -> Any:
        """JSON that the gateway answers."""
        with urllib.request.urlopen(f"{self.url}{path}", timeout=5) as response:  # noqa: S310
            return json.load(response)

    def zero_load_ms(self) -> float:
        """The verifier's time for one token when idle, as its heartbeat tells it."""
        with contextlib.closing(connect(self.redis_url)) as client:
            (about,) = live_members(client, Keys(CELL), "verifier").values()
        return float(about["zero_load_ms"])

    def metrics(self, name: str) -> str:
        """The body of a service's /metrics."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[name]}/metrics", timeout=5) as response:
            text: str = response.read().decode()
        return text

    def is_ready(self, name: str) -> bool:
        """Whether its /ready answers 200."""
        with contextlib.suppress(OSError):
            url = f"http://127.0.0.1:{self.ports[name]}/ready"
            with urllib.request.urlopen(url, timeout=2) as response:
                return bool(response.status == 200)
        return False


@contextmanager
def local_stack(
    settings: Mapping[str, Mapping[str, str]] | None = None,
    *,
    target: str = TARGET,
    draft: str = DRAFT,
    environment: Mapping[str, str] | None = None,
    modules: Mapping[str, str] | None = None,
    data_dir: Path | None = None,
) -> Iterator[LocalStack]:
    """A stack that is ready, and stopped at the end. ``settings`` per service override the defaults; ``modules``
    are started in place of services. Unless told otherwise it serves every request, however late. Redis keeps an
    append-only file only where it is given a ``data_dir``."""
    chosen = {
        name: dict((settings or {}).get(name, {})) for name in ("selector", "drafter", "verifier", "gateway")
    }
    chosen["gateway"].setdefault("TARGET", target)
    chosen["gateway"].setdefault("REFUSE_UNREACHABLE", "false")
    chosen["verifier"].setdefault("TARGET", target)
    chosen["drafter"].setdefault("DRAFT", draft)
    chosen["verifier"].setdefault("DRAIN_S", "0")  # nobody would take over from it
    with tempfile.TemporaryDirectory(prefix="ada-logs-") as folder, EmbeddedRedis(data_dir=data_dir) as redis:
        stack = LocalStack(redis.url, Path(folder), chosen, environment or {})
        try:
            for name in chosen:
                stack.start(name, (modules or {}).get(name))
            stack.wait_ready(*SERVICES)
            yield stack
        finally:
            stack.stop()


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
