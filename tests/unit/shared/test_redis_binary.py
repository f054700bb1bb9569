"""Which server is started where nobody names one."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared import embedded_redis
from shared.embedded_redis import EmbeddedRedis, find_binary
from shared.errors import ConfigurationError


def install(folder: Path, name: str, words: str) -> str:
    """A program on PATH that prints `words`."""
    program = folder / name
    program.write_text(f"#!/bin/sh\necho '{words}'\n")
    program.chmod(0o755)
    return str(program)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_redis_comes_before_valkey(path: Path) -> None:
    valkey = install(path, "valkey-server", "Valkey server v=9.1.2 sha=0")
    assert find_binary() == valkey
    redis = install(path, "redis-server", "Redis server v=7.0.15 sha=0")
    assert find_binary() == redis


@pytest.mark.parametrize("words", ["Redis server v=6.0.16 sha=0", "something else"])
def test_a_server_without_functions_is_passed_over(path: Path, words: str) -> None:
    assert find_binary() != install(path, "redis-server", words)


def test_without_any_server_it_says_what_to_do(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_redis, "find_spec", lambda _: None)
    with pytest.raises(ConfigurationError, match="no Redis 7 or newer: set REDIS_URL"):
        find_binary()


def test_a_server_that_does_not_start_is_named_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="broken did not start: bad directive"):
        EmbeddedRedis(binary=install(tmp_path, "broken", "bad directive")).start()
