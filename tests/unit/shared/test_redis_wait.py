from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from shared.embedded_redis import EmbeddedRedis
from shared.redis_wait import wait_for_redis

NOBODY = "unix:///nowhere/redis.sock"


class Clock:
    """Time that passes in pauses only."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def closing_port() -> Iterator[int]:
    """Accepts and closes at once, as a service address without a server behind it may."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        stop = threading.Event()

        def close_all() -> None:
            while not stop.is_set():
                server.accept()[0].close()

        threading.Thread(target=close_all, daemon=True).start()
        yield server.getsockname()[1]
        stop.set()
        socket.create_connection(server.getsockname()).close()


def test_without_patience_nobody_is_asked() -> None:
    clock = Clock()
    wait_for_redis(NOBODY, 0.0, clock=clock, pause=clock.pause)
    assert clock.now == 100.0


def test_patience_ends(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    with caplog.at_level(logging.WARNING):
        wait_for_redis(NOBODY, 12.0, clock=clock, pause=clock.pause)
    assert 112.0 <= clock.now < 113.0
    told = [record.getMessage().split(": ", 1) for record in caplog.records]
    assert [words for words, _ in told] == [
        f"Redis does not answer yet; waiting for {left} s at most" for left in (12, 7, 2)
    ]
    assert all("No such file" in why for _, why in told)


def test_an_address_that_only_accepts_is_no_redis(closing_port: int) -> None:
    clock = Clock()
    wait_for_redis(f"redis://127.0.0.1:{closing_port}", 2.0, clock=clock, pause=clock.pause)
    assert clock.now >= 102.0


def test_it_goes_on_when_redis_comes(tmp_path: Path) -> None:
    clock, started = Clock(), EmbeddedRedis()
    link = tmp_path / "redis.sock"

    def pause(seconds: float) -> None:
        clock.pause(seconds)
        if clock.now == 101.0:
            link.symlink_to(started.url.removeprefix("unix://"))

    with started:
        wait_for_redis(f"unix://{link}", 60.0, clock=clock, pause=pause)
    assert clock.now == 101.0


def test_a_refusal_is_an_answer() -> None:
    with EmbeddedRedis() as server, Redis.from_url(server.url) as client:
        client.acl_setuser("nobody", enabled=True, passwords=["+right"], commands=["-@all"])
        clock = Clock()
        for url in (
            f"{server.url}?username=nobody&password=right",
            f"{server.url}?username=nobody&password=wrong",
        ):
            wait_for_redis(url, 60.0, clock=clock, pause=clock.pause)
    assert clock.now == 100.0
