"""A tier's queue: tenants take turns by tokens and weight, whatever one of them sends."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from redis import Redis

from shared.functions import LIBRARY, execute
from shared.records import Origin
from shared.scripts import ClaimStatus, Enqueued, call, cancel, claim, enqueue, reseed
from shared.streams import create_group
from shared.topics import VERIFIER_GROUP, Keys
from shared.work import WorkReader
from tests.effort import examples
from tests.unit.shared.queue_model import Charge, TierQueue

KEYS = Keys("fair")
TIER = 1
WINDOW = 8
LIMIT = 40
CHARGES = st.builds(Charge, st.sampled_from("tuv"), st.integers(1, 50), st.sampled_from([0.5, 1.0, 3.0]))

EXACTLY = settings(
    deadline=None,
    database=None,
    derandomize=True,
    max_examples=examples(60),
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
)


class RealQueue:
    """The tier's queue in Redis, driven by the scripts."""

    def __init__(self, client: Redis, library: str = LIBRARY) -> None:
        self.client = client
        client.flushall()
        client.function_flush()
        execute(client, ("FUNCTION", "LOAD", library))

    def enqueue(self, request: str, charge: Charge, limit: int = LIMIT, share: float = 4.0) -> Enqueued:
        return call(
            self.client,
            enqueue(
                KEYS,
                request=request,
                origin=Origin(
                    body=b"",
                    tenant=charge.tenant,
                    tier=TIER,
                    seed=1,
                    gateway="",
                    traceparent=None,
                    cost=charge.cost,
                    weight=charge.weight,
                ),
                position=1,
                digest="d",
                limit=limit,
                share=share,
            ),
        )

    def entries(self) -> dict[str, str]:
        """Request by entry, oldest first."""
        found: Any = self.client.xrange(KEYS.requests(TIER))
        return {entry.decode(): fields[b"body"].decode() for entry, fields in found}

    def entry_of(self, request: str) -> str:
        return {body: entry for entry, body in self.entries().items()}.get(request, "")

    def claim(self, request: str) -> None:
        taken = claim(
            KEYS,
            request=request,
            verifier="v.1",
            epoch="e1",
            entry_id=self.entry_of(request),
            stream=KEYS.requests(TIER),
        )
        assert call(self.client, taken).status is ClaimStatus.OK

    def claim_first(self) -> str:
        request = next(iter(self.entries().values()))
        self.claim(request)
        return request

    def cancel(self, request: str) -> None:
        call(self.client, cancel(KEYS, request=request, event=b""))

    def waiting(self) -> dict[str, float]:
        found: Any = self.client.zrange(KEYS.waiting(TIER), 0, -1, withscores=True)
        return {request.decode(): tag for request, tag in found}

    def tokens(self) -> int:
        return int(self.client.hget(KEYS.backlog(TIER), "tokens") or 0)

    def is_empty(self) -> bool:
        keys = (KEYS.requests(TIER), KEYS.waiting(TIER), KEYS.tags(TIER), KEYS.backlog(TIER))
        return self.client.xlen(keys[0]) == 0 and not self.client.exists(*keys[1:])


def follow_the_model(queue: RealQueue, data: st.DataObject) -> None:
    """Random histories: the stream's order and the tags of those behind it are the model's."""
    model = TierQueue(queue.entry_of, WINDOW)
    for number in range(data.draw(st.integers(10, 60))):
        request = f"r{number:02}"
        charge = data.draw(CHARGES)
        expected = model.room(charge.tenant, LIMIT, 4.0)
        assert queue.enqueue(request, charge) is expected
        if expected is Enqueued.OK:
            model.add(request, charge)
        if model.stream and data.draw(st.integers(0, 2)) == 0:
            leaving = data.draw(st.sampled_from([*model.stream.values(), *model.waiting]))
            (queue.claim if leaving in model.stream.values() else queue.cancel)(leaving)
            model.remove(leaving)
        assert queue.entries() == model.stream
        assert (queue.waiting(), queue.tokens()) == (model.waiting, model.tokens)
    for request in [*model.stream.values(), *model.waiting]:
        queue.cancel(request)
    assert queue.is_empty()


@EXACTLY
@given(st.data())
def test_every_history_agrees_with_the_model(redis_client: Redis, data: st.DataObject) -> None:
    follow_the_model(RealQueue(redis_client), data)


@pytest.mark.parametrize(
    ("line", "without"),
    [
        ("math.max(tonumber(virtual or 0), tonumber(finish or 0))", "tonumber(virtual or 0)"),
        ("redis.call('HSET', line.tags, 'virtual', tag)", ""),
        ("request.cost / request.weight", "tonumber(request.cost)"),
        ("redis.call('HINCRBY', line.backlog, 'tokens', -state.cost)", ""),
    ],
)
def test_a_missing_line_is_noticed(redis_client: Redis, line: str, without: str) -> None:
    assert LIBRARY.count(line) == 1
    library = LIBRARY.replace(line, without)

    @EXACTLY
    @given(st.data())
    def run(data: st.DataObject) -> None:
        follow_the_model(RealQueue(redis_client, library), data)

    with pytest.raises((AssertionError, ExceptionGroup)):
        run()


def served(queue: RealQueue, count: int) -> list[str]:
    """Names of the next requests to be claimed, each `<tenant><number>`."""
    return [queue.claim_first() for _ in range(count)]


def test_a_flood_does_not_stand_before_another_tenants_request(redis_client: Redis) -> None:
    queue = RealQueue(redis_client)
    for number in range(30):
        queue.enqueue(f"flood{number}", Charge("flood", 100))
    queue.enqueue("urgent", Charge("urgent", 100))
    # Only what verifiers could read already is before it, and what has a place beside it.
    assert "urgent" in served(queue, WINDOW + 2)


def test_tenants_get_tokens_by_weight(redis_client: Redis) -> None:
    queue = RealQueue(redis_client)
    for number in range(60):
        queue.enqueue(f"a{number:02}", Charge("a", 100, weight=1.0), limit=1000, share=1e9)
        queue.enqueue(f"b{number:02}", Charge("b", 25, weight=1.0), limit=1000, share=1e9)
        queue.enqueue(f"c{number:02}", Charge("c", 100, weight=2.0), limit=1000, share=1e9)
    cost = {"a": 100, "b": 25, "c": 100}
    tokens: Counter[str] = Counter()
    served(queue, WINDOW)  # these found no queue yet
    for request in served(queue, 70):
        tokens[request[0]] += cost[request[0]]
    assert tokens["b"] == pytest.approx(tokens["a"], abs=200)
    assert tokens["c"] == pytest.approx(2 * tokens["a"], abs=300)


def test_a_newcomer_always_finds_room(redis_client: Redis) -> None:
    queue = RealQueue(redis_client)
    answers = [queue.enqueue(f"flood{number}", Charge("flood")) for number in range(LIMIT + 5)]
    assert answers.count(Enqueued.OK) == 32  # four fifths of the queue
    assert answers[-1] is Enqueued.TENANT_FULL
    assert queue.enqueue("new", Charge("new")) is Enqueued.OK


def test_what_a_dead_verifier_has_read_does_not_hold_up_others(redis_client: Redis) -> None:
    queue = RealQueue(redis_client)
    create_group(redis_client, KEYS.requests(TIER), VERIFIER_GROUP, at="0")
    for number in range(2 * WINDOW):
        queue.enqueue(f"r{number:02}", Charge())
    reader = WorkReader(redis_client, KEYS, "v.dead")
    reader.create_groups()
    assert len(reader.read(WINDOW)) == WINDOW
    queue.enqueue("last", Charge())
    assert list(queue.entries().values())[WINDOW:] == [f"r{number:02}" for number in range(WINDOW, 2 * WINDOW)]


def test_entries_that_vanish_are_followed_after_a_refill(redis_client: Redis) -> None:
    queue = RealQueue(redis_client)
    for number in range(2 * WINDOW):
        queue.enqueue(f"r{number:02}", Charge())
    redis_client.xtrim(KEYS.requests(TIER), maxlen=0)
    WorkReader(redis_client, KEYS, "v.1").reclaim(set())
    assert list(queue.entries().values()) == [f"r{number:02}" for number in range(WINDOW, 2 * WINDOW)]


@pytest.mark.parametrize(("tokens", "is_fair"), [(b"", True), (b"\1\0\0\0", False)])
def test_a_forgotten_request_waits_among_its_like_unless_it_has_begun(
    redis_client: Redis, tokens: bytes, is_fair: bool
) -> None:
    queue = RealQueue(redis_client)
    call(
        redis_client,
        reseed(
            KEYS,
            request="r",
            origin=Origin(body=b"", tenant="t", tier=TIER, seed=1, gateway="", traceparent=None, cost=9),
            start=1,
            position=1 + len(tokens) // 4,
            digest="d",
            tokens=tokens,
        ),
    )
    assert list(queue.entries().values()) == (["r"] if is_fair else [])
    assert redis_client.xlen(KEYS.released) == (not is_fair)
    assert redis_client.hget(KEYS.backlog(TIER), "tokens") == (b"9" if is_fair else None)
