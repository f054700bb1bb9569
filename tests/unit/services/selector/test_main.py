"""The selector as a process (services/selector/__main__.py)."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from redis import Redis

from services.selector.__main__ import serve
from services.selector.settings import SelectorSettings
from shared.errors import ConfigurationError
from shared.heartbeat import live_members
from shared.latency import LatencyModel
from shared.streams import HintReader, OwnedStream, hint, keep_alive, send
from shared.topics import SELECT, VERIFY, Keys
from tests.unit.services.selector.batches import batch, tree

TABLE = LatencyModel(tokens=(1, 64), ms=(10.0, 26.0))


def environment(redis_url: str, keys: Keys, **more: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("ADASERVE_", "OTEL_"))}
    return {**clean, "REDIS_URL": redis_url, "ADASERVE_CELL": keys.cell, "ADASERVE_HTTP_PORT": "0", **more}


@contextmanager
def running(env: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "services.selector"]
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def until(holds: Callable[[], bool]) -> None:
    """Waits for another process; the test's own timeout bounds it."""
    pause = threading.Event()
    while not holds():
        pause.wait(0.02)


def test_process_announces_itself_answers_and_drains_on_sigterm(
    redis_url: str, redis_client: Redis, keys: Keys
) -> None:
    keep_alive(redis_client, [OwnedStream(keys.verify("v.1"))])
    redis_client.set(keys.profile("v.1", TABLE.version), TABLE.to_bytes())
    body = SELECT.encode(batch([tree([-1, 0], [0.5, 0.25])], profile=TABLE.version))
    with running(environment(redis_url, keys)) as process:
        until(lambda: bool(live_members(redis_client, keys, "selector")))
        send(redis_client, [hint(keys.select, body, traceparent=None, now_ms=0.0)])
        until(lambda: bool(redis_client.xlen(keys.verify("v.1"))))
        [entry] = HintReader(redis_client, [keys.verify("v.1")]).read(None)[keys.verify("v.1")]
        assert VERIFY.decode(entry.body).tokens.tolist() == [100, 101]
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0
    assert live_members(redis_client, keys, "selector") == {}


def test_unreachable_redis_ends_the_start_with_one_line(keys: Keys) -> None:
    with running(environment("redis://127.0.0.1:1", keys)) as process:
        _, errors = process.communicate()
        assert (process.returncode, len(errors.splitlines())) == (3, 1)
        assert errors.startswith("adaserve: ")


@pytest.mark.parametrize("name", ["ADASERVE_BUDGETS", "ADASERVE_MAX_DEPTH"])
def test_misspelled_or_malformed_setting_ends_the_start_with_one_line(
    redis_url: str, keys: Keys, name: str
) -> None:
    with running(environment(redis_url, keys, **{name: "900"})) as process:
        _, errors = process.communicate()
        assert (process.returncode, len(errors.splitlines())) == (2, 1)
        assert name in errors


def test_port_in_use_is_refused_by_name(redis_url: str, keys: Keys) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=str(port)):
            serve(SelectorSettings(redis_url=redis_url, cell=keys.cell, http_port=port))


def test_selector_needs_no_torch() -> None:
    check = "import sys, services.selector.__main__; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
