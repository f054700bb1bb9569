"""The work queues: nothing read and unclaimed is ever lost, nothing unreadable stops the others."""

from __future__ import annotations

from typing import Any

import pytest
from redis import Redis
from redis import exceptions as raised

from shared.errors import BusUnavailable
from shared.records import Origin
from shared.scripts import Claim, Forgotten, call, claim, enqueue, forget_consumer
from shared.topics import NUM_TIERS, VERIFIER_GROUP, Keys
from shared.work import Orphan, Work, WorkReader, orphans


@pytest.fixture
def reader(redis_client: Redis, keys: Keys) -> WorkReader:
    return reader_of(redis_client, keys, "v.1")


def reader_of(client: Redis, keys: Keys, consumer: str) -> WorkReader:
    reader = WorkReader(client, keys, consumer)
    reader.create_groups()
    return reader


def put(client: Redis, keys: Keys, request: str, tier: int = 0) -> None:
    call(
        client,
        enqueue(
            keys,
            request=request,
            origin=Origin(body=b"body", tenant="t", tier=tier, seed=0, gateway="g.1", traceparent=None),
            position=1,
            digest="d",
            limit=99,
        ),
    )


def take(client: Redis, keys: Keys, work: Work, verifier: str = "v.1") -> list[Claim]:
    return [
        call(
            client,
            claim(
                keys,
                request=entry.body.decode(),
                verifier=verifier,
                epoch=f"e-{entry.id}",
                entry_id=entry.id,
                stream=stream,
            ),
        )
        for stream, entry in work
    ]


def names(work: Work) -> list[str]:
    return [entry.body.decode() for _, entry in work]


def test_released_comes_first_then_the_tiers_in_order(redis_client: Redis, keys: Keys, reader: WorkReader) -> None:
    for tier in reversed(range(NUM_TIERS)):
        put(redis_client, keys, f"r{tier}", tier)
    redis_client.xadd(keys.released, {"body": "back"})
    assert names(reader.read(2)) == ["back", "r0"]
    assert names(reader.read(1, start_lowest=True)) == ["r3"]
    assert names(reader.read(9)) == ["r1", "r2"]
    assert reader.read(9) == []


def test_no_more_is_read_than_fits(redis_client: Redis, keys: Keys, reader: WorkReader) -> None:
    for index in range(5):
        put(redis_client, keys, f"r{index}", index % 2)
    assert len(reader.read(3)) == 3
    pending: Any = redis_client.xpending(keys.requests(1), VERIFIER_GROUP)
    assert pending["pending"] == 0
    assert reader.read(0) == []


def test_the_backlog_from_before_the_first_verifier_is_read(redis_client: Redis, keys: Keys) -> None:
    put(redis_client, keys, "early")
    reader = WorkReader(redis_client, keys, "v.1")
    assert reader.read(1) == []
    assert reader.num_recreated == 1
    assert names(reader.read(1)) == ["early"]


def test_waiting_ends_with_work_and_needs_room_for_all_queues(
    redis_client: Redis, keys: Keys, reader: WorkReader
) -> None:
    assert reader.read(9, block_ms=1) == []
    assert reader.read(NUM_TIERS, block_ms=1_000) == []
    put(redis_client, keys, "r")
    assert names(reader.read(9, block_ms=1_000)) == ["r"]


class FailsOnce:
    """A client whose next call loses its reply after the effect."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self.loses_reply = False

    def execute_command(self, *words: Any) -> Any:
        reply = self._client.execute_command(*words)  # type: ignore[no-untyped-call]
        if self.loses_reply and words[0] == "XREADGROUP":
            self.loses_reply = False
            raise raised.ConnectionError("reply lost")
        return reply

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


def test_an_entry_whose_delivery_was_lost_is_handed_out_again(redis_client: Redis, keys: Keys) -> None:
    client: Any = FailsOnce(redis_client)
    reader = reader_of(client, keys, "v.1")
    put(redis_client, keys, "lost")
    put(redis_client, keys, "next")
    client.loses_reply = True
    with pytest.raises(BusUnavailable):
        reader.read(1)
    again = reader.read(5)
    assert names(again) == ["lost"]
    take(redis_client, keys, again)
    assert names(reader.read(5)) == ["next"]


def test_an_entry_whose_claim_failed_is_handed_out_again(
    redis_client: Redis, keys: Keys, reader: WorkReader
) -> None:
    put(redis_client, keys, "r")
    assert names(reader.read(1)) == ["r"]
    assert reader.read(1) == []
    reader.recover()
    assert names(reader.read(1)) == ["r"]


def test_deleted_entries_leave_the_pending_list(redis_client: Redis, keys: Keys, reader: WorkReader) -> None:
    put(redis_client, keys, "r")
    ((stream, entry),) = reader.read(1)
    redis_client.xdel(stream, entry.id)
    reader.recover()
    assert reader.read(1) == []
    pending: Any = redis_client.xpending(stream, VERIFIER_GROUP)
    assert pending["pending"] == 0


@pytest.mark.parametrize("body", [None, b"", b"x" * 65, b"\xff"])
def test_an_entry_that_names_no_request_becomes_a_dead_letter(
    redis_client: Redis, keys: Keys, reader: WorkReader, body: bytes | None
) -> None:
    stream = keys.requests(0)
    redis_client.xadd(stream, {"other": b"1"} if body is None else {"body": body})
    put(redis_client, keys, "sound")
    assert names(reader.read(2)) == ["sound"]
    letters: Any = redis_client.xrange(keys.dead)
    assert letters[0][1][b"reason"] == b"queue entry names no request"
    assert letters[0][1][b"stream"] == stream.encode()
    assert redis_client.xlen(stream) == 1


def test_a_destroyed_group_is_created_again_without_losing_the_backlog(
    redis_client: Redis, keys: Keys, reader: WorkReader
) -> None:
    put(redis_client, keys, "r")
    redis_client.xgroup_destroy(keys.requests(0), VERIFIER_GROUP)
    assert reader.read(1) == []
    assert names(reader.read(1)) == ["r"]


def test_a_bug_is_not_taken_for_an_outage(redis_client: Redis, keys: Keys, reader: WorkReader) -> None:
    redis_client.delete(keys.requests(0))
    redis_client.set(keys.requests(0), "x")
    with pytest.raises(raised.ResponseError, match="WRONGTYPE"):
        reader.read(1)
    redis_client.delete(keys.released)
    redis_client.set(keys.released, "x")
    reader.recover()
    with pytest.raises(raised.ResponseError, match="WRONGTYPE"):
        reader.read(1)


def test_what_a_dead_consumer_has_read_is_taken_over(redis_client: Redis, keys: Keys, reader: WorkReader) -> None:
    put(redis_client, keys, "a")
    put(redis_client, keys, "b")
    assert len(reader.read(2)) == 2
    other = reader_of(redis_client, keys, "v.2")
    assert other.reclaim({"v.1", "v.2"}) == []
    redis_client.xadd(keys.requests(2), {"other": b"1"})
    redis_client.xreadgroup(VERIFIER_GROUP, "v.1", {keys.requests(2): ">"})
    taken = other.reclaim({"v.2"})
    assert names(taken) == ["a", "b"]
    assert redis_client.xlen(keys.dead) == 1
    assert {found.status for found in take(redis_client, keys, taken, "v.2")} == {"OK"}
    assert other.reclaim({"v.2"}) == []
    consumers: Any = redis_client.xinfo_consumers(keys.requests(0), VERIFIER_GROUP)
    assert [consumer["name"] for consumer in consumers] == [b"v.2"]


def test_a_read_that_ran_after_it_was_given_up_loses_nothing(
    redis_client: Redis, keys: Keys, reader: WorkReader
) -> None:
    """The server was stopped with the command in its socket: what it read is nobody's, and its reader lives."""
    reader.recover()
    assert reader.read(5) == []
    put(redis_client, keys, "late")
    redis_client.xreadgroup(VERIFIER_GROUP, "v.1", {keys.requests(0): ">"})
    assert reader.read(5) == []
    assert reader.reclaim(["v.1"]) == []
    work = reader.read(5)
    assert [entry.body for _, entry in work] == [b"late"]
    take(redis_client, keys, work)
    assert reader.reclaim(["v.1"]) == []
    assert reader.read(5) == []


def test_a_consumer_is_forgotten_only_when_dead_and_without_pending_entries(
    redis_client: Redis, keys: Keys, reader: WorkReader
) -> None:
    put(redis_client, keys, "a")
    work = reader.read(1)
    forget = forget_consumer(keys, stream=keys.requests(0), consumer="v.1")
    assert call(redis_client, forget) is Forgotten.PENDING
    take(redis_client, keys, work)
    redis_client.set(keys.heartbeat("verifier", "v.1"), b"")
    assert call(redis_client, forget) is Forgotten.ALIVE
    redis_client.delete(keys.heartbeat("verifier", "v.1"))
    assert call(redis_client, forget) is Forgotten.OK
    assert redis_client.xinfo_consumers(keys.requests(0), VERIFIER_GROUP) == []


def test_there_is_nothing_to_take_over_from_queues_that_are_gone(
    redis_client: Redis, keys: Keys, reader: WorkReader
) -> None:
    redis_client.delete(keys.released)
    redis_client.xgroup_destroy(keys.requests(0), VERIFIER_GROUP)
    assert reader.reclaim(set()) == []
    redis_client.set(keys.released, "x")
    with pytest.raises(raised.ResponseError, match="WRONGTYPE"):
        reader.reclaim(set())


def test_the_requests_of_a_dead_verifier_are_found_with_their_epochs(
    redis_client: Redis, keys: Keys, reader: WorkReader
) -> None:
    put(redis_client, keys, "a")
    (found,) = take(redis_client, keys, reader.read(1))
    assert found.status == "OK"
    redis_client.sadd(keys.members("verifier"), "v.1", "v.2")
    redis_client.sadd(keys.owned("v.1"), "forgotten")
    assert orphans(redis_client, keys, {"v.1", "v.2"}) == []
    first, second = orphans(redis_client, keys, {"v.2"})
    assert (first.request, first.owner, first.epoch[:2]) == ("a", "v.1", "e-")
    assert second == Orphan("forgotten", "v.1", "")
    for orphan in (first, second):
        call(
            redis_client,
            claim(
                keys,
                request=orphan.request,
                verifier="v.2",
                epoch="e2",
                expected_owner=orphan.owner,
                expected_epoch=orphan.epoch,
            ),
        )
    assert redis_client.smembers(keys.owned("v.2")) == {b"a"}
    assert orphans(redis_client, keys, {"v.2"}) == []
