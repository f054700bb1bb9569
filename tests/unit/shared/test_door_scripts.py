"""The door's functions on a real server: leases of running requests, and API keys that two gateways change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from redis import Redis

from shared import door_scripts
from shared.door_scripts import Held, KeyChange, KeyRecords
from shared.functions import Call, call
from shared.inspect_store import note
from shared.inspection import MAX_CANDIDATES
from shared.topics import INSPECT_MAXLEN, INSPECT_TTL_S, RUNNING_LEASE_MS, Keys
from tests.unit.shared.test_messages import example_inspected_step, example_inspected_tree

Ask = Callable[[Call[Any]], Any]
TREE, STEP = example_inspected_tree(), example_inspected_step()


@pytest.fixture
def ask(redis_client: Redis) -> Ask:
    return lambda request: call(redis_client, request)


def hold(keys: Keys, *requests: str, limit: int | None = 2, lease_ms: int = RUNNING_LEASE_MS) -> Call[Held]:
    return door_scripts.hold(keys, tenant="acme", requests=requests, limit=limit, lease_ms=lease_ms)


def test_so_many_requests_run_at_once_and_no_more(ask: Ask, keys: Keys) -> None:
    assert ask(hold(keys, "a")) == Held(True, 1)
    assert ask(hold(keys, "b", "c")) == Held(False, 1)
    assert ask(hold(keys, "b")) == Held(True, 2)
    assert ask(hold(keys, "c")) == Held(False, 2)
    ask(door_scripts.let_go(keys, tenant="acme", requests=["a", "unknown"]))
    assert ask(hold(keys, "c")) == Held(True, 2)


def test_a_renewal_is_never_refused_and_counts_once(ask: Ask, keys: Keys) -> None:
    ask(hold(keys, "a", "b"))
    assert ask(hold(keys, "a", "b", limit=1)) == Held(True, 2)
    assert ask(hold(keys, "c", limit=None)) == Held(True, 3)


def test_leases_end_by_redis_clock(ask: Ask, keys: Keys, redis_client: Redis) -> None:
    ask(hold(keys, "a", "b"))
    assert 0 < redis_client.pttl(keys.running("acme")) <= RUNNING_LEASE_MS  # type: ignore[operator]
    seconds, micros = redis_client.time()  # type: ignore[misc]
    now_ms = seconds * 1_000 + micros / 1_000
    for name, end_ms in redis_client.zrange(keys.running("acme"), 0, -1, withscores=True):  # type: ignore[union-attr]
        assert name in (b"a", b"b")
        assert RUNNING_LEASE_MS - 2_000 < end_ms - now_ms <= RUNNING_LEASE_MS + 1
    redis_client.zadd(keys.running("acme"), {"a": now_ms - 1})  # its gateway is gone
    assert ask(hold(keys, "c")) == Held(True, 2)
    assert not redis_client.zscore(keys.running("acme"), "a")


def test_tenants_do_not_count_for_each_other(ask: Ask, keys: Keys) -> None:
    ask(hold(keys, "a", limit=1))
    assert ask(door_scripts.hold(keys, tenant="globex", requests=["b"], limit=1)).is_granted


def write(keys: Keys, version: str, *changes: KeyChange) -> Call[list[str]]:
    return door_scripts.write_keys(keys, new_version=version, changes=changes)


def test_keys_are_read_only_when_they_changed(ask: Ask, keys: Keys) -> None:
    assert ask(door_scripts.read_keys(keys, known_version="")) == KeyRecords("", {})
    assert ask(write(keys, "v1", KeyChange("a", b"A"), KeyChange("b", b"B"))) == []
    assert ask(door_scripts.read_keys(keys, known_version="")) == KeyRecords("v1", {b"a": b"A", b"b": b"B"})
    assert ask(door_scripts.read_keys(keys, known_version="v1")) is None
    assert ask(door_scripts.read_keys(keys, known_version="v0")).version == "v1"


def test_what_another_changed_meanwhile_is_not_overwritten(ask: Ask, keys: Keys) -> None:
    ask(write(keys, "v1", KeyChange("a", b"A"), KeyChange("b", b"B")))
    assert ask(write(keys, "v2", KeyChange("a", b"A2", b"A"), KeyChange("b", b"B2", b"old"))) == ["b"]
    assert ask(door_scripts.read_keys(keys, known_version="")) == KeyRecords("v2", {b"a": b"A2", b"b": b"B"})


def test_a_repeated_write_is_no_conflict_and_no_change(ask: Ask, keys: Keys) -> None:
    change = KeyChange("a", b"A")
    ask(write(keys, "v1", change))
    assert ask(write(keys, "v2", change)) == []
    assert ask(door_scripts.read_keys(keys, known_version="v1")) is None


def test_a_redis_that_forgot_is_not_taken_for_unchanged(ask: Ask, keys: Keys, redis_client: Redis) -> None:
    ask(write(keys, "v1", KeyChange("a", b"A")))
    redis_client.delete(keys.api_keys, keys.api_keys_version)
    assert ask(door_scripts.read_keys(keys, known_version="v1")) == KeyRecords("", {})
    assert ask(door_scripts.read_keys(keys, known_version="")) == KeyRecords("", {})


def opened(keys: Keys, tenant: str, *requests: str, limit: int = 4) -> Call[None]:
    return door_scripts.open_inspected(keys, tenant=tenant, requests=requests, limit=limit)


def kept(redis_client: Redis, keys: Keys) -> set[str]:
    names = redis_client.keys(keys.inspect("*"))
    return {name.decode().rpartition(":")[2] for name in names}  # type: ignore[union-attr]


def test_the_oldest_goes_of_the_tenant_that_has_most(ask: Ask, keys: Keys, redis_client: Redis) -> None:
    ask(opened(keys, "quiet", "q"))
    for name in "abcde":
        ask(opened(keys, "busy", name))
    assert kept(redis_client, keys) == {"q", "c", "d", "e"}
    ask(opened(keys, "other", "x", "y"))
    assert kept(redis_client, keys) == {"q", "e", "x", "y"}
    ask(opened(keys, "busy", "f"))
    assert kept(redis_client, keys) == {"q", "x", "y", "f"}
    assert redis_client.zcard(keys.inspected) == 4


def test_a_stream_is_opened_once_and_one_that_is_over_takes_no_room(
    ask: Ask, keys: Keys, redis_client: Redis
) -> None:
    ask(opened(keys, "acme", "a", "b"))
    assert 0 < redis_client.ttl(keys.inspect("a")) <= INSPECT_TTL_S  # type: ignore[operator]
    redis_client.xadd(keys.inspect("a"), {"step": b""})
    ask(opened(keys, "acme", "a", "b"))
    assert redis_client.xlen(keys.inspect("a")) == 1
    redis_client.delete(keys.inspect("b"))
    ask(opened(keys, "acme", "c", "d", "e"))
    assert kept(redis_client, keys) == {"a", "c", "d", "e"}


def test_a_full_stream_takes_two_megabytes_at_most(ask: Ask, keys: Keys, redis_client: Redis) -> None:
    ask(opened(keys, "acme", "a"))
    many = np.zeros(MAX_CANDIDATES)
    tree = replace(
        TREE,
        tokens=many.astype(np.int32),
        parents=np.arange(-1, MAX_CANDIDATES - 1, dtype=np.int16),
        probability=many.astype(np.float32),
        chosen=np.arange(MAX_CANDIDATES, dtype=np.int16),
        phase=many.astype(np.uint8),
    )
    with redis_client.pipeline(transaction=False) as pipe:
        for _ in range(INSPECT_MAXLEN):
            for command in (*note(keys, "a", tree), *note(keys, "a", STEP)):
                pipe.execute_command(*command)
        pipe.execute()
    assert INSPECT_MAXLEN <= redis_client.xlen(keys.inspect("a")) < INSPECT_MAXLEN + 100  # type: ignore[operator]
    assert 1_500_000 < redis_client.memory_usage(keys.inspect("a"), samples=0) < 2_500_000  # type: ignore[operator]
    assert kept(redis_client, keys) == {"a"}


def test_nobody_tells_where_no_gateway_has_opened(ask: Ask, keys: Keys, redis_client: Redis) -> None:
    for command in (*note(keys, "a", TREE), *note(keys, "a", STEP)):
        redis_client.execute_command(*command)
    assert kept(redis_client, keys) == set()
