"""The first signal drains, the second ends the process, also where its main thread is busy."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.embedded_redis import EmbeddedRedis
from shared.errors import AdaServeError, BusUnavailable, ConfigurationError
from shared.process import on_signals, run
from shared.settings import EXIT_BUS_UNAVAILABLE, EXIT_CONFIGURATION, ServiceSettings

BUSY = """
import hashlib, os, signal, sys, threading
from shared.process import on_signals
first, second = (int(word) for word in sys.argv[1:])
drained = threading.Event()
on_signals(drained.set)
os.kill(os.getpid(), first)
assert drained.wait(20)
print("draining", flush=True)
os.kill(os.getpid(), second)
hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # long, without Python in which a handler could run
print("never", flush=True)
"""


@pytest.mark.parametrize(
    ("first", "second"), [(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGTERM), (signal.SIGTERM, 2)]
)
def test_the_first_signal_drains_and_the_second_ends_the_process_at_once(first: int, second: int) -> None:
    command = [sys.executable, "-c", BUSY, str(int(first)), str(int(second))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=40, check=False)
    assert (done.returncode, done.stdout) == (128 + second, "draining\n"), done.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [(ConfigurationError("no such port"), EXIT_CONFIGURATION), (BusUnavailable("no Redis"), EXIT_BUS_UNAVAILABLE)],
)
def test_a_start_that_cannot_succeed_is_one_line(
    error: AdaServeError, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def serve(_: ServiceSettings) -> None:
        raise error

    with pytest.raises(SystemExit) as ended:
        run(ServiceSettings, serve)
    assert ended.value.code == code
    assert capsys.readouterr().err == f"adaserve: {error}\n"


def test_nobody_serves_before_redis_answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    link, come = tmp_path / "redis.sock", threading.Event()
    monkeypatch.setenv("REDIS_URL", f"unix://{link}")
    monkeypatch.setenv("ADASERVE_REDIS_PATIENCE_S", "30")
    with EmbeddedRedis() as server:
        there = server.url.removeprefix("unix://")

        def arrive() -> None:
            come.set()
            link.symlink_to(there)

        later = threading.Timer(0.8, arrive)
        later.start()
        run(ServiceSettings, lambda _: None if come.is_set() else pytest.fail("served without Redis"))
        later.join()


@pytest.fixture
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    os.close(signal.set_wakeup_fd(-1))
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
def test_the_main_thread_goes_on_while_it_drains(monkeypatch: pytest.MonkeyPatch) -> None:
    drained, exits = threading.Event(), queue.SimpleQueue[int]()
    monkeypatch.setattr(os, "_exit", exits.put)
    on_signals(drained.set)
    os.kill(os.getpid(), signal.SIGTERM)
    assert drained.wait(20)
    assert exits.empty()
    os.kill(os.getpid(), signal.SIGINT)
    assert exits.get(timeout=20) == 128 + signal.SIGINT
