"""What a verifier counts: only what Redis took."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from shared import signals
from shared.errors import BusUnavailable
from shared.telemetry import Telemetry, configure
from tests.requests import request
from tests.ring import TableRing


@pytest.fixture
def own() -> Iterator[Telemetry]:
    with configure("verifier", "own") as configured:
        yield configured


def committed(own: Telemetry) -> float:
    lines = own.prometheus().decode().splitlines()
    [value] = [line.split()[1] for line in lines if line.startswith(f"{signals.TOKENS_COMMITTED.exposed} ")]
    return float(value)


def in_journal(ring: TableRing, *names: str) -> int:
    journals = [ring.client.xrange(ring.keys.journal(name)) for name in names]
    return sum(len(fields[b"tokens"]) // 4 for entries in journals for _, fields in entries)


@pytest.mark.parametrize("fate", ["another verifier's", "cancelled"])
def test_tokens_of_rows_that_redis_refused_are_not_committed(build: Any, own: Telemetry, fate: str) -> None:
    ring = build(telemetry=own)
    lost, kept = request(1, max_tokens=40), request(2, max_tokens=40)
    ring.submit(lost)
    ring.submit(kept)
    ring.turn(6)
    fields = {"owner": "verifier.2", "epoch": "00ff"} if fate == "another verifier's" else {"status": "cancelled"}
    ring.client.hset(ring.keys.request(lost.request), mapping=fields)
    ring.turn(4)
    assert [one.id for one in ring.scheduler.generations] == [kept.request]
    assert committed(own) == in_journal(ring, lost.request, kept.request) > 0
    told, _ = ring.engine._figures._recent.sums(ring.clock_ms())
    assert told.num_tokens == committed(own)


def test_tokens_whose_commit_was_answered_only_when_repeated_count_once(
    build: Any, own: Telemetry, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = build(telemetry=own)
    asked = request(1, max_tokens=20)
    ring.submit(asked)
    commit, calls = ring.bus.commit, []

    def lose_each_third_reply(*given: Any) -> Any:
        calls.append(given)
        answer = commit(*given)
        if len(calls) % 3 == 1:
            raise BusUnavailable("not answered")
        return answer

    monkeypatch.setattr(ring.bus, "commit", lose_each_third_reply)
    delivered = ring.run()
    assert b'adaserve_commits_total{status="SAME"}' in own.prometheus()
    assert committed(own) == len(delivered[asked.request].tokens) == in_journal(ring, asked.request)
