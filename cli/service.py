"""One service of the local stack: a child process that is started again when it ends."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cli.restarts import RestartPolicy, reason
from shared.embedded_redis import die_with_parent

MAX_LOG_LINE = 1 << 20  # bytes; asyncio's default of 64 KiB is shorter than some tracebacks of model code
_PIPE_GRACE_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePlan:
    """What a service is started with. `host` and `port` answer `/ready`; it has `drain_s` to end on SIGTERM."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    host: str
    port: int
    drain_s: float


class Service:
    """Runs a plan until told to stop. `say(service, line)` takes its log lines and what happens to it."""

    def __init__(self, plan: ServicePlan, say: Callable[[str, str], None]) -> None:
        self.plan = plan
        self._say = say
        self._policy = RestartPolicy(plan.name)
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process is not None else None

    async def supervise(self) -> None:
        """Start it, again after each end, until `terminate`. Raises ServiceFailed when that does not help."""
        while not self._stopping.is_set():
            started = time.monotonic()
            code = await self._run_once()
            if self._stopping.is_set():
                return
            delay_s = self._policy.delay_after(code, time.monotonic() - started)
            self._say(self.plan.name, f"ended {reason(code)}; restart {self._policy.restarts} in {delay_s:.2f} s")
            await self._pause(delay_s)

    async def is_ready(self) -> bool:
        """Whether the process runs and its `/ready` answers 200."""
        return self._process is not None and await _answers_ok(self.plan.host, self.plan.port)

    def terminate(self) -> None:
        """Ask it to drain and end; it is not started again."""
        self._stopping.set()
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it now."""
        self._stopping.set()
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    async def _run_once(self) -> int:
        self._process = await asyncio.create_subprocess_exec(
            *self.plan.command,
            env=dict(self.plan.environment),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=MAX_LOG_LINE,
            start_new_session=True,  # Ctrl-C comes to the launcher alone, which drains in order
            preexec_fn=die_with_parent(signal.SIGKILL),  # Redis goes with the launcher, so nothing could drain
        )
        if self._stopping.is_set():  # told to stop while it was being started
            self._signal(signal.SIGTERM)
        assert self._process.stdout is not None
        lines = asyncio.create_task(self._forward(self._process.stdout))
        code = await self._process.wait()
        await asyncio.wait([lines], timeout=_PIPE_GRACE_S)  # a grandchild may still hold the pipe
        lines.cancel()
        self._process = None
        return code

    async def _forward(self, output: asyncio.StreamReader) -> None:
        while True:
            try:
                line = await output.readline()
            except ValueError:  # longer than MAX_LOG_LINE; the reader has dropped it
                self._say(self.plan.name, "(a log line of more than 1 MiB was left out)")
                continue
            if not line:
                return
            self._say(self.plan.name, line.decode(errors="replace").rstrip())

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return


async def _answers_ok(host: str, port: int) -> bool:
    """GET /ready by hand: an HTTP client library would cost more start-up time than everything else here."""
    try:
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(f"GET /ready HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
                return (await reader.readline()).split()[1:2] == [b"200"]
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
