"""The prefix cache in a whole ring: whatever is found, outputs are plain decoding's; nobody finds another's."""

from __future__ import annotations

from typing import Any

from shared.messages import Request
from tests.requests import request
from tests.ring import TableRing, check, plain

SYSTEM = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8]


def cached(ring: TableRing, asked: Request) -> int:
    stats = ring.delivered()[asked.request].stats
    assert stats is not None
    return int(stats["num_cached_tokens"])


def test_the_same_tenant_finds_a_beginning_and_another_does_not(build: Any) -> None:
    ring = build()
    asked = [
        request(1, prompt=[*SYSTEM, 1]),
        request(2, prompt=[*SYSTEM, 2, 7]),
        request(3, prompt=[*SYSTEM, 1], tenant="other"),
        request(4, prompt=SYSTEM),
        request(5, prompt=SYSTEM[1:]),
    ]
    for one in asked:  # one after the other: each has left before the next comes
        ring.submit(one)
        check(ring, [one])
    assert [cached(ring, one) for one in asked] == [0, 12, 0, 8, 0]


def test_a_conversation_finds_its_last_answer(build: Any) -> None:
    ring = build()
    first = request(1, prompt=SYSTEM, max_tokens=9)
    ring.submit(first)
    check(ring, [first])
    second = request(2, prompt=[*SYSTEM, *plain(ring.model, first), 7])
    ring.submit(second)
    check(ring, [second])
    assert cached(ring, second) == 20


def test_a_beginning_is_found_while_its_request_still_runs(build: Any) -> None:
    ring = build()
    first, second = request(1, prompt=SYSTEM, max_tokens=60), request(2, prompt=[*SYSTEM, 9])
    ring.submit(first)
    ring.turn(4)
    ring.submit(second)
    check(ring, [first, second])
    assert cached(ring, second) == 12


def test_a_pool_that_is_too_small_only_finds_less(build: Any) -> None:
    ring = build(num_blocks=12, noise=0.3)
    asked = [
        request(number, prompt=[*SYSTEM[: 4 * (number % 4)], number % 12, 2], max_tokens=16, temperature=0.8)
        for number in range(1, 25)
    ]
    for one in asked:
        ring.submit(one)
    check(ring, asked)
    assert ring.scheduler.num_preempted > 0
    assert sum(cached(ring, one) for one in asked) > 0


def test_without_a_cache_nothing_is_found(build: Any) -> None:
    ring = build(prefix_cache=False)
    asked = [request(number, prompt=SYSTEM) for number in (1, 2)]
    for one in asked:
        ring.submit(one)
        check(ring, [one])
    assert [cached(ring, one) for one in asked] == [0, 0]
