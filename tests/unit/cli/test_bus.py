"""Redis of the local stack: the operator's or an embedded one, with clear words when it is not usable."""

from __future__ import annotations

import os
import signal

import pytest
from redis import Redis

from cli import bus
from shared.embedded_redis import EmbeddedRedis
from shared.errors import BusUnavailable, ConfigurationError


def test_the_operators_redis_is_used_and_left_running(redis_url: str) -> None:
    with bus.running(redis_url) as redis:
        assert redis.url == redis_url
        assert redis_url in redis.words
    bus.check(redis_url)


def test_an_embedded_redis_ends_with_the_block() -> None:
    with bus.running(None) as redis:
        with Redis.from_url(redis.url) as client:
            assert client.ping()
        assert "embedded" in redis.words
    with pytest.raises(BusUnavailable, match="does not answer"):
        bus.check(redis.url)


def test_a_password_is_for_the_check_and_services_put_it_in_themselves() -> None:
    with EmbeddedRedis(options={"requirepass": "hunter2"}) as server:
        with (
            pytest.raises(BusUnavailable, match=r"authenticated|Authentication required"),
            bus.running(server.url),
        ):
            pass
        with bus.running(server.url, server.url.replace("unix://", "unix://:hunter2@")) as redis:
            assert redis.url == server.url
            assert "hunter2" not in redis.words


async def test_the_end_of_the_embedded_server_is_noticed() -> None:
    with bus.running(None) as redis:
        assert redis.server is not None
        os.kill(redis.server.pid, signal.SIGKILL)
        with pytest.raises(bus.BusLost, match="start again"):
            await redis.watch()


def test_an_unreachable_redis_is_named_without_its_password() -> None:
    with pytest.raises(BusUnavailable, match=r"redis://127\.0\.0\.1:1/0 does not answer: .*refused") as caught:
        bus.check("redis://user:hunter2@127.0.0.1:1/0")
    assert "hunter2" not in str(caught.value)


def test_a_malformed_url_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="REDIS_URL"):
        bus.check("http://127.0.0.1:1")


def test_too_old_a_server_is_refused(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus, "MIN_VERSION", 99)
    with pytest.raises(ConfigurationError, match="functions need 99"):
        bus.check(redis_url)
