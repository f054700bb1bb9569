"""The first signal drains each service, the second ends it: real processes with table models."""

from __future__ import annotations

import http.client
import json
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis

from shared.embedded_redis import EmbeddedRedis
from shared.heartbeat import live_members
from shared.streams import connect
from shared.topics import Keys
from tests.effort import heavy
from tests.faults.cell import Cell, PlainDecoding, bodies, cell
from tests.faults.load import Load

KEYS = Keys("default")
LONG = {"model": "default", "prompt": [5, 6, 7], "max_tokens": 3000, "ignore_eos": True, "stream": True, "seed": 1}


@pytest.fixture(scope="module")
def redis() -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture(scope="module")
def client(redis: EmbeddedRedis) -> Iterator[Redis]:
    opened = connect(redis.url)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def target(redis: EmbeddedRedis) -> Iterator[Cell]:
    with cell(redis.url, num_verifiers=2) as opened:
        yield opened


def owner(client: Redis) -> str:
    """A verifier that is at work, once there is one. The test's own timeout bounds it."""
    while True:
        for member in live_members(client, KEYS, "verifier"):
            if client.exists(KEYS.owned(member)):
                return member
        time.sleep(0.01)


def start_again(target: Cell, name: str) -> None:
    target.start(name)
    target.stack.wait_ready(name)


@pytest.fixture
def stream(target: Cell) -> Iterator[Any]:
    """A long stream, once its first token is there."""
    connection = http.client.HTTPConnection("127.0.0.1", target.stack.ports["gateway"], timeout=30)
    connection.request("POST", "/v1/completions", json.dumps(LONG), {"content-type": "application/json"})
    response = connection.getresponse()
    response.readline()
    yield response
    response.close()
    connection.close()


def test_a_verifier_hands_over_and_leaves_nothing_behind(target: Cell, client: Redis) -> None:
    load = Load(target.gateways, bodies(5, max_tokens=300), PlainDecoding(), 4)
    load.start()
    leaving = owner(client)
    name = leaving.partition(".")[0]
    target.signal(name, signal.SIGTERM)
    assert target.end_of(name) == 0
    load.stop()
    assert load.record.damage == []
    assert set(load.record.outcomes) == {"whole"}
    assert not client.exists(KEYS.owned(leaving), KEYS.verify(leaving), KEYS.heartbeat("verifier", leaving))
    start_again(target, name)


@heavy  # the unit tests of its process send it two signals as well
def test_a_verifier_that_nobody_relieves_serves_on_until_a_second_signal(
    target: Cell, client: Redis, stream: Any
) -> None:
    working = owner(client)
    other = next(member for member in live_members(client, KEYS, "verifier") if member != working)
    names = [member.partition(".")[0] for member in (other, working)]
    for name in names:
        target.signal(name, signal.SIGTERM)
    assert target.end_of(names[0]) == 0
    position = int(client.hget(KEYS.request(stream.headers["x-adaserve-stream"]), "position") or 0)
    while int(client.hget(KEYS.request(stream.headers["x-adaserve-stream"]), "position") or 0) < position + 80:
        time.sleep(0.05)
    target.signal(names[1], signal.SIGTERM)
    assert target.end_of(names[1]) == 128 + signal.SIGTERM
    for name in names:
        start_again(target, name)


@pytest.mark.parametrize("name", ["drafter", "selector"])
def test_a_worker_leaves_at_once_and_costs_no_token(target: Cell, client: Redis, name: Any) -> None:
    load = Load(target.gateways, bodies(6, max_tokens=100), PlainDecoding(), 4)
    load.start()
    owner(client)
    (member,) = live_members(client, KEYS, name)
    target.signal(name, signal.SIGTERM)
    while live_members(client, KEYS, name):
        time.sleep(0.01)
    assert target.end_of(name) == 0
    load.stop()
    assert load.record.damage == []
    assert not client.exists(KEYS.draft(member))
    start_again(target, name)


@heavy
@pytest.mark.parametrize("name", ["drafter", "selector"])
def test_a_second_signal_ends_a_worker_before_its_read_is_over(target: Cell, name: str) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):  # two of one number may arrive as one
        target.signal(name, number)
    assert target.end_of(name) in (128 + signal.SIGTERM, 128 + signal.SIGINT)
    start_again(target, name)


@heavy  # the unit tests of its process send it two signals as well
def test_a_second_signal_cuts_the_streams_of_a_gateway(target: Cell, stream: Any) -> None:
    target.signal("gateway", signal.SIGTERM)
    while target.stack.is_ready("gateway"):
        time.sleep(0.01)
    with pytest.raises(RuntimeError, match="503"):
        target.stack.complete({"prompt": [5], "max_tokens": 1})
    assert target.stack.processes["gateway"].poll() is None
    target.signal("gateway", signal.SIGTERM)
    assert target.end_of("gateway") == 128 + signal.SIGTERM
    start_again(target, "gateway")
