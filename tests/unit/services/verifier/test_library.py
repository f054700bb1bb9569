"""A verifier serves nothing before the function library is of its release or later."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from redis import Redis

import services.verifier.__main__ as root
from shared.functions import LIBRARY, VERSION, execute, load_library
from shared.streams import connect

OLDER = LIBRARY.replace(f"local VERSION = {VERSION}", f"local VERSION = {VERSION - 1}")


@pytest.fixture
def weak(redis_client: Redis, redis_url: str) -> Iterator[Redis]:
    """A user that may not load functions, as verifiers have where Redis has users."""
    redis_client.acl_log_reset()
    redis_client.execute_command("ACL", "SETUSER", "weak", "reset", "on", ">w", "~*", "+@all", "-function|load")
    client = connect(redis_url.replace("unix://", "unix://weak:w@"))
    yield client
    client.close()
    redis_client.execute_command("ACL", "DELUSER", "weak")


def test_it_puts_its_own_in_the_place_of_an_older_one(redis_client: Redis) -> None:
    execute(redis_client, ("FUNCTION", "LOAD", OLDER))
    root.await_library(redis_client, may_load=True)
    assert execute(redis_client, ("FCALL", "adaserve_version", 0)) == VERSION


def test_where_it_may_not_it_waits_for_a_gateway(
    redis_client: Redis, weak: Redis, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(root, "LIBRARY_AGAIN_S", 0.001)
    execute(redis_client, ("FUNCTION", "LOAD", OLDER))
    waiting = threading.Thread(target=root.await_library, args=[weak], kwargs={"may_load": False})
    waiting.start()
    while "waiting for a gateway" not in caplog.text:
        waiting.join(0.001)
    assert waiting.is_alive()
    load_library(redis_client)
    waiting.join(10)
    assert not waiting.is_alive()
    assert caplog.text.count("waiting for a gateway") == 1
    assert [entry for entry in redis_client.acl_log() if entry["username"] == "weak"] == []  # it has tried nothing


def test_a_newer_one_is_as_good(redis_client: Redis, weak: Redis) -> None:
    newer = LIBRARY.replace(f"local VERSION = {VERSION}", f"local VERSION = {VERSION + 1}")
    execute(redis_client, ("FUNCTION", "LOAD", newer))
    root.await_library(weak, may_load=False)
    assert execute(redis_client, ("FCALL", "adaserve_version", 0)) == VERSION + 1
