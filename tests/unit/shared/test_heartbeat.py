"""Members come, live and go; a heartbeat follows its loop and knows how long it has been on time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest
from redis import Redis

from shared.embedded_redis import EmbeddedRedis
from shared.errors import BusUnavailable
from shared.functions import LIBRARY, VERSION, execute, has_library
from shared.heartbeat import AT_MS, Heartbeat, Pulse, clock_skew_ms, has_dead, live_members, new_member
from shared.streams import HintReader, OwnedStream, connect, hint, send
from shared.topics import CONTROL, HEARTBEAT_PERIOD_MS, HEARTBEAT_TTL_MS, Keys

TTL_S = HEARTBEAT_TTL_MS / 1_000


class Clock:
    """Seconds, advanced by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def heartbeat(redis_client: Redis, redis_url: str, keys: Keys, clock: Clock) -> Iterator[Heartbeat]:
    """A verifier's heartbeat whose thread is not started: the test beats."""
    heartbeat = Heartbeat(redis_url, keys, "verifier", "v.1", lambda: {"load": 3}, clock=clock)
    yield heartbeat
    heartbeat.stop()


def test_a_beat_announces_the_member_and_what_it_says(
    redis_client: Redis, keys: Keys, heartbeat: Heartbeat
) -> None:
    heartbeat.beat()
    ((name, about),) = live_members(redis_client, keys, "verifier").items()
    assert (name, about.pop(AT_MS) > 0, about) == ("v.1", True, {"load": 3})
    assert live_members(redis_client, keys, "drafter") == {}
    assert 0 < int(redis_client.pttl(keys.heartbeat("verifier", "v.1"))) <= HEARTBEAT_TTL_MS


@pytest.mark.parametrize("ahead_s", [0.0, 90.0, -3600.0])
def test_a_beat_tells_how_far_its_clock_is_from_redis(
    redis_client: Redis, keys: Keys, heartbeat: Heartbeat, monkeypatch: pytest.MonkeyPatch, ahead_s: float
) -> None:
    monkeypatch.setattr("shared.heartbeat.time.time", lambda real=time.time: real() + ahead_s)
    heartbeat.beat()
    seconds, micros = redis_client.time()
    (about,) = live_members(redis_client, keys, "verifier").values()
    skew = clock_skew_ms(about, seconds * 1e3 + micros / 1e3)
    assert skew == pytest.approx(1e3 * ahead_s, abs=HEARTBEAT_TTL_MS)


def test_a_beat_without_a_time_tells_no_skew() -> None:
    assert clock_skew_ms({}, 1e12) is None
    assert clock_skew_ms({AT_MS: "soon"}, 1e12) is None


def library_of(client: Redis) -> int:
    return int(execute(client, ("FCALL", "adaserve_version", 0)))


def test_an_older_library_that_somebody_loads_is_replaced_within_a_second(
    redis_client: Redis, redis_url: str, keys: Keys, clock: Clock
) -> None:
    older = LIBRARY.replace(f"local VERSION = {VERSION}", f"local VERSION = {VERSION - 1}")
    execute(redis_client, ("FUNCTION", "LOAD", older))
    heartbeat = Heartbeat(redis_url, keys, "verifier", "v.1", dict, keeps_library=True, clock=clock)
    heartbeat.beat()
    assert library_of(redis_client) == VERSION  # before anybody hears of the member
    execute(redis_client, ("FUNCTION", "LOAD", "REPLACE", older))
    heartbeat.beat()
    assert library_of(redis_client) == VERSION - 1
    clock.now += 1.0
    heartbeat.beat()
    assert library_of(redis_client) == VERSION
    heartbeat.stop()


def test_a_library_is_had_when_it_is_there_and_not_older(redis_client: Redis) -> None:
    assert not has_library(redis_client)
    for version, is_had in ((VERSION - 1, False), (VERSION, True), (VERSION + 1, True)):
        other = LIBRARY.replace(f"local VERSION = {VERSION}", f"local VERSION = {version}")
        execute(redis_client, ("FUNCTION", "LOAD", "REPLACE", other))
        assert has_library(redis_client) is is_had


def test_a_member_that_calls_no_functions_loads_none(redis_client: Redis, heartbeat: Heartbeat) -> None:
    heartbeat.beat()
    assert redis_client.function_list() == []


def test_a_member_that_is_gone_leaves_the_set_unless_it_still_owns_requests(
    redis_client: Redis, keys: Keys, heartbeat: Heartbeat
) -> None:
    heartbeat.beat()
    redis_client.sadd(keys.owned("v.1"), "r")
    redis_client.delete(keys.heartbeat("verifier", "v.1"))
    assert live_members(redis_client, keys, "verifier") == {}
    assert redis_client.smembers(keys.members("verifier")) == {b"v.1"}
    redis_client.delete(keys.owned("v.1"))
    live_members(redis_client, keys, "verifier")
    assert redis_client.smembers(keys.members("verifier")) == set()


def test_a_death_is_seen_until_the_member_is_forgotten(
    redis_client: Redis, keys: Keys, heartbeat: Heartbeat
) -> None:
    assert not has_dead(redis_client, keys, "verifier")
    heartbeat.beat()
    assert not has_dead(redis_client, keys, "verifier")
    redis_client.sadd(keys.members("verifier"), "v.dead")
    assert has_dead(redis_client, keys, "verifier")
    live_members(redis_client, keys, "verifier")
    assert not has_dead(redis_client, keys, "verifier")


@pytest.mark.parametrize(
    "value", [b"\xc1", msgpack.packb([1]), msgpack.packb({"x": "y" * (1 << 16)}), b"", msgpack.packb({1: 2})[:1]]
)
def test_a_member_whose_description_is_unreadable_stays_in_the_set(
    redis_client: Redis, keys: Keys, value: bytes
) -> None:
    redis_client.sadd(keys.members("drafter"), "d.1")
    redis_client.set(keys.heartbeat("drafter", "d.1"), value)
    assert live_members(redis_client, keys, "drafter") == {}
    assert redis_client.smembers(keys.members("drafter")) == {b"d.1"}


def test_stopping_takes_the_member_out_at_once(redis_client: Redis, redis_url: str, keys: Keys) -> None:
    heartbeat = Heartbeat(redis_url, keys, "selector", "s.1", dict, [OwnedStream(keys.verify("s.1"))])
    assert not heartbeat.is_running
    with heartbeat:
        assert heartbeat.is_running
        assert live_members(redis_client, keys, "selector").keys() == {"s.1"}
    assert redis_client.keys(f"{keys.prefix}*") == []


def test_a_drafter_that_leaves_is_out_and_says_so_and_may_still_be_asked(
    redis_client: Redis, redis_url: str, keys: Keys
) -> None:
    own = OwnedStream(keys.draft("d.1"))
    with Heartbeat(redis_url, keys, "drafter", "d.1", dict, [own]) as heartbeat:
        assert heartbeat.on_time_for(0)
        heartbeat.leave()
        while live_members(redis_client, keys, "drafter"):
            threading.Event().wait(0.01)
        assert heartbeat.is_running  # no reason to restart it
        assert not heartbeat.on_time_for(0)
        assert redis_client.exists(own.name)
        [(_, fields)] = redis_client.xrange(keys.control)
    assert CONTROL.decode(fields[b"body"]).subject == "d.1"
    assert redis_client.keys(f"{keys.prefix}*") == [keys.control.encode()]
    assert redis_client.xlen(keys.control) == 1


def test_a_shared_stream_outlives_the_member(redis_client: Redis, redis_url: str, keys: Keys) -> None:
    with Heartbeat(redis_url, keys, "selector", "s.1", dict, [OwnedStream(keys.select, "selectors")]):
        pass
    assert redis_client.exists(keys.select)


def test_on_time_means_an_unbroken_key_until_now(heartbeat: Heartbeat, clock: Clock) -> None:
    assert not heartbeat.on_time_for(0)
    heartbeat.beat()
    assert not heartbeat.on_time_for(1)
    for _ in range(8):
        clock.now += HEARTBEAT_PERIOD_MS / 1_000
        heartbeat.beat()
    assert heartbeat.on_time_for(2 * HEARTBEAT_TTL_MS)
    assert not heartbeat.on_time_for(2 * HEARTBEAT_TTL_MS + 1)


def test_a_late_beat_begins_the_time_anew(heartbeat: Heartbeat, clock: Clock) -> None:
    heartbeat.beat()
    clock.now += TTL_S
    assert not heartbeat.on_time_for(0)
    heartbeat.beat()
    assert heartbeat.on_time_for(0)
    assert not heartbeat.on_time_for(1)


def test_a_beat_answered_late_begins_the_time_anew(
    redis_client: Redis, redis_url: str, keys: Keys, clock: Clock
) -> None:
    def describe() -> dict[str, Any]:
        clock.now += delay  # between sending the beat and its answer
        return {}

    delay = 0.0
    heartbeat = Heartbeat(redis_url, keys, "verifier", "v.1", describe, clock=clock)
    heartbeat.beat()
    clock.now += 0.9 * TTL_S
    delay = 0.2 * TTL_S
    heartbeat.beat()
    assert not heartbeat.on_time_for(1)
    heartbeat.stop()


def test_owned_streams_are_created_and_their_loss_is_told(redis_client: Redis, redis_url: str, keys: Keys) -> None:
    stream = keys.draft("d.1")
    reader = HintReader(redis_client, [stream])
    told: list[str] = []
    heartbeat = Heartbeat(redis_url, keys, "drafter", "d.1", dict, [OwnedStream(stream)], on_recreated=told.append)
    heartbeat.beat()
    assert redis_client.exists(stream)
    assert told == []
    redis_client.delete(stream)
    heartbeat.beat()
    assert told == [stream]
    assert send(redis_client, [hint(stream, b"x", traceparent=None, now_ms=0.0)]) != [None]
    assert len(reader.read(None)[stream]) == 1
    heartbeat.stop()
    quiet = Heartbeat(redis_url, keys, "drafter", "d.2", dict, [OwnedStream(stream)])
    quiet.beat()
    redis_client.delete(stream)
    quiet.beat()
    assert redis_client.exists(stream)
    quiet.stop()


def test_a_loop_that_is_stuck_is_not_announced(redis_client: Redis, redis_url: str, keys: Keys) -> None:
    asked = threading.Event()

    def healthy() -> bool:
        asked.set()
        return False

    with Heartbeat(redis_url, keys, "drafter", "d.1", dict, healthy=healthy):
        redis_client.delete(keys.heartbeat("drafter", "d.1"))
        assert asked.wait(5)
        asked.clear()
        assert asked.wait(5)
        assert not redis_client.exists(keys.heartbeat("drafter", "d.1"))


def test_the_thread_beats_again_after_redis_was_away(redis_binary: str | None, keys: Keys) -> None:
    with EmbeddedRedis(binary=redis_binary) as server:
        client = connect(server.url)
        beats = threading.Semaphore(0)

        def describe() -> dict[str, Any]:
            beats.release()
            return {}

        with Heartbeat(server.url, keys, "drafter", "d.1", describe):
            client.config_set("maxmemory", "1")
            assert [beats.acquire(timeout=5) for _ in range(3)] == [True] * 3
            client.config_set("maxmemory", "0")
            assert [beats.acquire(timeout=5) for _ in range(3)] == [True] * 3
            assert list(live_members(client, keys, "drafter")) == ["d.1"]


def test_a_start_without_redis_fails_and_a_stop_without_redis_does_not(
    redis_binary: str | None, keys: Keys
) -> None:
    with EmbeddedRedis(binary=redis_binary) as server:
        heartbeat = Heartbeat(server.url, keys, "drafter", "d.1", dict)
        heartbeat.beat()
    with pytest.raises(BusUnavailable):
        heartbeat.start()
    heartbeat.stop()


def test_a_pulse_allows_ten_steps_and_at_least_five_seconds(clock: Clock) -> None:
    pulse = Pulse(clock)
    clock.now += 5.0
    assert pulse.healthy()
    clock.now += 0.1
    assert not pulse.healthy()
    pulse.tick()
    clock.now += 2.0
    pulse.tick()
    clock.now += 20.0
    assert pulse.healthy()
    clock.now += 0.1
    assert not pulse.healthy()


def test_members_of_one_name_differ() -> None:
    members = {new_member("drafter") for _ in range(100)}
    assert len(members) == 100
    assert all(member.startswith("drafter.") for member in members)
