"""Health server: three paths, answered from its own thread."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import httpx
import pytest

from shared.errors import ConfigurationError
from shared.health import HealthServer


class Worker:
    """What a service would report."""

    ready = True
    live = True

    def broken(self) -> bool:
        raise RuntimeError("lost")


@pytest.fixture
def worker() -> Worker:
    return Worker()


@pytest.fixture
def get(worker: Worker) -> Iterator[Callable[[str], httpx.Response]]:
    server = HealthServer(
        "127.0.0.1", 0, lambda: worker.ready, lambda: worker.live, lambda: b"adaserve_steps_total 1\n"
    ).start()
    with httpx.Client(base_url=f"http://127.0.0.1:{server.port}") as client:
        yield client.get
    server.stop()


def test_ready_and_live_follow_their_checks(worker: Worker, get: Callable[[str], httpx.Response]) -> None:
    assert [get(path).status_code for path in ("/live", "/ready", "/ready?verbose=1")] == [200, 200, 200]
    worker.ready = False
    assert [get(path).status_code for path in ("/live", "/ready")] == [200, 503]
    worker.live = False
    assert get("/live").status_code == 503


def test_metrics_are_prometheus_text(get: Callable[[str], httpx.Response]) -> None:
    answer = get("/metrics")
    assert answer.text == "adaserve_steps_total 1\n"
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")


def test_other_paths_do_not_exist(get: Callable[[str], httpx.Response]) -> None:
    assert get("/secrets").status_code == 404


def test_a_failing_check_is_a_no(worker: Worker) -> None:
    server = HealthServer("127.0.0.1", 0, worker.broken, lambda: True)
    assert server.answer("/ready")[0] == 503
    assert server.answer("/metrics")[2] == b""
    server.stop()


def test_a_client_that_hangs_up_does_not_disturb_the_next(get: Callable[[str], httpx.Response]) -> None:
    port = get("/live").url.port
    assert port is not None
    with socket.create_connection(("127.0.0.1", port)) as half_open:
        half_open.sendall(b"GET /live HT")
        assert get("/live").status_code == 200
    assert get("/live").status_code == 200


def test_a_taken_port_is_one_clear_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=rf"127\.0\.0\.1:{port}: Address already in use"):
            HealthServer("127.0.0.1", port, lambda: True, lambda: True)
