"""Latency models by version (services/selector/profiles.py)."""

from __future__ import annotations

import logging

import pytest
from redis import Redis

from services.selector.profiles import MAX_CACHED, ProfileCache, redis_loader
from shared.errors import BusUnavailable
from shared.latency import LatencyModel
from shared.streams import connect
from shared.topics import Keys

TABLE = LatencyModel(tokens=(1, 64), ms=(10.0, 26.0))


class Shelf:
    """A loader over a dict that remembers what it was asked for."""

    def __init__(self) -> None:
        self.tables: dict[str, LatencyModel] = {}
        self.asked: list[str] = []

    def load(self, verifier: str, version: str) -> LatencyModel | None:
        self.asked.append(version)
        return self.tables.get(version)


def test_missing_table_is_asked_for_until_it_is_there_and_then_kept(caplog: pytest.LogCaptureFixture) -> None:
    shelf = Shelf()
    cache = ProfileCache(shelf.load)
    with caplog.at_level(logging.WARNING):
        assert [cache.get("v.1", "abc"), cache.get("v.1", "abc")] == [None, None]
    assert len(caplog.records) == 1
    shelf.tables["abc"] = TABLE
    assert [cache.get("v.1", "abc"), cache.get("v.1", "abc")] == [TABLE, TABLE]
    assert shelf.asked == ["abc"] * 3


def test_verifier_without_a_version_is_not_looked_up() -> None:
    shelf = Shelf()
    assert ProfileCache(shelf.load).get("v.1", "") is None
    assert shelf.asked == []


def test_cache_is_bounded() -> None:
    shelf = Shelf()
    shelf.tables = {str(number): TABLE for number in range(MAX_CACHED + 1)}
    cache = ProfileCache(shelf.load)
    for version in shelf.tables:
        cache.get("v.1", version)
    cache.get("v.1", str(MAX_CACHED))
    cache.get("v.1", "0")
    assert shelf.asked.count("0") == 2
    assert shelf.asked.count(str(MAX_CACHED)) == 1


def test_table_is_read_from_redis(redis_client: Redis, keys: Keys) -> None:
    load = redis_loader(redis_client, keys)
    assert load("v.1", TABLE.version) is None
    redis_client.set(keys.profile("v.1", TABLE.version), TABLE.to_bytes())
    assert load("v.1", TABLE.version) == TABLE


def test_unreadable_table_counts_as_missing(
    redis_client: Redis, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    redis_client.set(keys.profile("v.1", "abc"), b"rubbish")
    assert redis_loader(redis_client, keys)("v.1", "abc") is None
    assert "not msgpack" in caplog.text


def test_unreachable_redis_is_said_to_be_away(keys: Keys) -> None:
    client = connect("redis://127.0.0.1:1")
    with pytest.raises(BusUnavailable):
        redis_loader(client, keys)("v.1", "abc")
