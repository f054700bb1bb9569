"""The local stack on toy services: gated start, restart, giving up, draining."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable

import pytest

from cli import ports, stack
from cli.service import Service, ServicePlan
from cli.stack import Stack
from shared.errors import AdaServeError

HOST = "127.0.0.1"
# Answers every probe with 200; SIGTERM ends it with code 0, "stubborn" ignores that.
SERVER = """
import http.server, os, signal, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *_): pass
server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
def end(*_):
    print("draining", flush=True)
    if "stubborn" not in sys.argv: sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("started", flush=True)
server.serve_forever()
"""


class Log:
    """Lines said, and a way to wait for one."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def say(self, name: str, line: str) -> None:
        self.lines.append((name, line))

    def said(self, name: str, part: str) -> bool:
        return any(who == name and part in line for who, line in self.lines)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def service(name: str, log: Log, *arguments: str, code: str = SERVER, drain_s: float = 20) -> Service:
    port = ports.any_free(HOST)
    command = (sys.executable, "-c", code, str(port), *arguments)
    plan = ServicePlan(
        name=name, command=command, environment=dict(os.environ), host=HOST, port=port, drain_s=drain_s
    )
    return Service(plan, log.say)


@pytest.fixture
def log() -> Log:
    return Log()


async def started(stack: Stack, log: Log) -> asyncio.Task[int]:
    """The stack's run, once it has greeted."""
    greeted = asyncio.Event()

    async def greet() -> None:
        greeted.set()

    run = asyncio.create_task(stack.run(greet))
    async with asyncio.timeout(20):
        await greeted.wait()
    return run


async def test_it_greets_when_all_are_ready_and_drains_in_order_on_a_signal(log: Log) -> None:
    names = ("gateway", "verifier", "drafter")
    run = await started(Stack([service(name, log) for name in names], log.say), log)
    assert all(log.said(name, "started") for name in names)
    os.kill(os.getpid(), signal.SIGTERM)
    assert await run == 0
    assert [name for name, line in log.lines if line == "draining"] == list(names)


async def test_a_killed_service_comes_back(log: Log) -> None:
    drafter = service("drafter", log)
    run = await started(Stack([drafter, service("gateway", log)], log.say), log)
    first = drafter.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await until(lambda: log.said("drafter", "by signal SIGKILL; restart 1"))
    await until(lambda: drafter.pid not in (None, first))
    async with asyncio.timeout(20):
        while not await drafter.is_ready():
            await asyncio.sleep(0.02)
    os.kill(os.getpid(), signal.SIGINT)
    assert await run == 0


async def test_a_second_signal_ends_what_does_not_drain(log: Log) -> None:
    run = await started(Stack([service("gateway", log, "stubborn")], log.say), log)
    os.kill(os.getpid(), signal.SIGINT)
    await until(lambda: log.said("gateway", "draining"))
    os.kill(os.getpid(), signal.SIGINT)
    assert await run == 0


async def test_a_service_that_does_not_drain_is_killed_in_time(log: Log) -> None:
    run = await started(Stack([service("gateway", log, "stubborn", drain_s=0.2)], log.say), log)
    os.kill(os.getpid(), signal.SIGINT)
    assert await run == 0
    assert log.said("up", "gateway did not end within")


async def test_a_configuration_error_stops_the_start(log: Log) -> None:
    bad = service("verifier", log, code="import sys; print('ADASERVE_X: no'); sys.exit(2)")
    code = await Stack([bad, service("gateway", log)], log.say).run(unreached)
    assert code == 1
    assert log.said("verifier", "ADASERVE_X: no")
    assert log.said("up", "verifier cannot start with these settings")


async def test_a_bug_in_the_greeting_is_not_hidden(log: Log) -> None:
    said = asyncio.Event()

    async def greet() -> None:
        said.set()
        raise KeyError("a bug")

    run = asyncio.create_task(Stack([service("gateway", log)], log.say).run(greet))
    await said.wait()
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyError):
        await run


async def test_a_lost_bus_drains_what_is_left(log: Log) -> None:
    async def watch() -> None:
        await until(lambda: log.said("gateway", "started"))
        raise AdaServeError("no bus any more")

    assert await Stack([service("gateway", log)], log.say, watch).run(unheard) == 1
    assert log.said("up", "no bus any more")
    assert log.said("gateway", "draining")


async def unheard() -> None:
    """A greeting nobody waits for."""


async def unreached() -> None:
    raise AssertionError("greeted although a service is not ready")


async def test_a_failed_greeting_is_told_and_the_stack_stays_up(log: Log) -> None:
    async def greet() -> None:
        raise AdaServeError("no model")

    run = asyncio.create_task(Stack([service("gateway", log)], log.say).run(greet))
    await until(lambda: log.said("up", "the first completion failed: no model"))
    assert not run.done()
    os.kill(os.getpid(), signal.SIGINT)
    assert await run == 0


async def test_a_slow_start_is_told(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "STILL_WAITING_S", 0.05)
    slow = service("verifier", log, code="import time; time.sleep(60)")
    run = asyncio.create_task(Stack([slow], log.say).run(unreached))
    await until(lambda: log.said("up", "still waiting for verifier"))
    os.kill(os.getpid(), signal.SIGINT)
    assert await run == 0


async def test_an_endless_log_line_does_not_stop_the_service(log: Log) -> None:
    code = "print('x' * (3 << 20)); print('after'); import time; time.sleep(60)"
    noisy = service("gateway", log, code=code)
    run = asyncio.create_task(noisy.supervise())
    await until(lambda: log.said("gateway", "left out"))
    noisy.kill()
    await run
