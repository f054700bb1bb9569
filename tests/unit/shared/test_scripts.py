"""Each status of each script by example, and each guard by its removal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis
from redis.exceptions import ResponseError

from shared import topics
from shared.errors import BusUnavailable, UnreadableMessage
from shared.functions import LIBRARY, Call, aload_library, execute, is_missing_function, library_version
from shared.label_store import read_labels, unpack_labels
from shared.labels import LabelCounts
from shared.scripts import (
    MAX_COMMIT_ROWS,
    Attached,
    Cancelled,
    Claim,
    ClaimStatus,
    CommitRow,
    CommitStatus,
    Contradiction,
    Enqueued,
    Forgotten,
    JournalEntry,
    Left,
    Origin,
    Released,
    ReseedStatus,
    Terminal,
    acall,
    add_labels,
    attach,
    call,
    cancel,
    claim,
    commit,
    enqueue,
    forget_verifier,
    leave,
    load_library,
    new_epoch,
    overdue,
    release,
    reseed,
)
from shared.streams import OwnedStream, connect, connect_async, keep_alive, send
from shared.topics import RETAIN_MS, VERIFIER_GROUP, Keys

ORIGIN = Origin(
    body=b"\x00\xff",
    tenant="acme",
    tier=1,
    seed=7,
    gateway="g.1",
    traceparent="00-aa-bb-01",
    form=b"\xc1form",
    attachment=1,
)
Scenario = Callable[["Cell"], None]


class Cell:
    """A cell with one verifier that acts on it; short names for what the examples do."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self.client = client
        self.keys = keys
        keep_alive(client, [OwnedStream(keys.tokens("g.1")), OwnedStream(keys.tokens("g.2"))])

    def run(self, request: Call[Any]) -> Any:
        return call(self.client, request)

    def enqueue(self, request: str = "r", limit: int = 9, gateway: str = "g.1") -> Enqueued:
        command = enqueue(
            self.keys,
            request=request,
            origin=replace(ORIGIN, gateway=gateway),
            position=3,
            digest="d3",
            limit=limit,
        )
        return Enqueued(self.run(command))

    def entry(self, stream: str) -> str:
        found: Any = self.client.xrevrange(stream, count=1)
        return str(found[0][0].decode()) if found else ""

    def claim(self, verifier: str = "v.1", epoch: str = "e1", owner: str = "", expected: str = "0") -> Claim:
        stream = self.keys.requests(1)
        command = claim(
            self.keys,
            request="r",
            verifier=verifier,
            epoch=epoch,
            expected_owner=owner,
            expected_epoch=expected,
            entry_id="" if owner else self.entry(stream),
            stream=stream,
        )
        return call(self.client, command)

    def begin(self) -> None:
        """A request that v.1 owns under e1."""
        assert self.enqueue() is Enqueued.OK
        assert self.claim().status is ClaimStatus.OK

    def commit(self, *rows: CommitRow, verifier: str = "v.1") -> list[CommitStatus]:
        return list(call(self.client, commit(self.keys, verifier=verifier, rows=rows)).results)

    def release(self, epoch: str = "e1") -> Released:
        return call(self.client, release(self.keys, request="r", verifier="v.1", epoch=epoch))

    def cancel(self, **options: Any) -> Cancelled:
        return call(self.client, cancel(self.keys, request="r", event=b"cancelled", **options))

    def attach(self, gateway: str = "g.2", attachment: int = 2, position: int = 3) -> Attached:
        command = attach(
            self.keys,
            request="r",
            gateway=gateway,
            position=position,
            detached=b"detached",
            attachment=attachment,
        )
        return call(self.client, command)

    def leave(self, gateway: str = "g.1", attachment: int = 1, grace_ms: int = 60_000) -> Left:
        command = leave(self.keys, request="r", gateway=gateway, attachment=attachment, grace_ms=grace_ms)
        return call(self.client, command)

    def overdue(self) -> list[str]:
        return call(self.client, overdue(self.keys))

    def reseed(self, tokens: bytes, digest: str = "dx", **options: Any) -> ReseedStatus:
        command = reseed(
            self.keys,
            request="r",
            origin=ORIGIN,
            start=3,
            position=3 + len(tokens) // 4,
            digest=digest,
            tokens=tokens,
            **options,
        )
        return call(self.client, command).status

    def hash(self, name: str, request: str = "r") -> str | None:
        found: Any = self.client.hget(self.keys.request(request), name)
        return None if found is None else found.decode()

    def owned(self, verifier: str) -> Any:
        return self.client.smembers(self.keys.owned(verifier))

    def events(self, gateway: str = "g.1") -> list[dict[bytes, bytes]]:
        found: Any = self.client.xrange(self.keys.tokens(gateway))
        return [fields for _, fields in found]

    def beat(self, verifier: str) -> None:
        self.client.set(self.keys.heartbeat("verifier", verifier), b"")


@pytest.fixture
def cell(redis_client: Redis, keys: Keys) -> Cell:
    return Cell(redis_client, keys)


def row(
    start: int, *tokens: int, finish: str = "", epoch: str = "e1", request: str = "r", **odd: Any
) -> CommitRow:
    values: dict[str, Any] = {
        "request": request,
        "epoch": epoch,
        "start": start,
        "start_digest": f"d{start}",
        "end": start + len(tokens),
        "end_digest": f"d{start + len(tokens)}",
        "tokens": pack(*tokens),
        "event": b"event",
        "finish": finish,
    }
    return CommitRow(**(values | odd))


def pack(*tokens: int) -> bytes:
    return b"".join(token.to_bytes(4, "little") for token in tokens)


# ---- the library ----


def test_the_library_has_its_parts_where_they_are_named() -> None:
    assert LIBRARY.startswith("#!lua name=adaserve\n")
    assert LIBRARY.index("\nlocal function warn") < LIBRARY.index("\nlocal function account")
    assert LIBRARY.index("\nlocal function account") < LIBRARY.index("\nlocal function retire")
    assert "\n--@" not in LIBRARY


def test_the_library_is_loaded_when_absent_or_older_and_left_when_newer(redis_client: Redis) -> None:
    line = f"local VERSION = {library_version(LIBRARY)}"
    execute(redis_client, ("FUNCTION", "LOAD", LIBRARY.replace(line, "local VERSION = 0")))
    load_library(redis_client)
    assert execute(redis_client, ("FCALL", "adaserve_version", 0)) == library_version(LIBRARY)
    execute(redis_client, ("FUNCTION", "LOAD", "REPLACE", LIBRARY.replace(line, "local VERSION = 999")))
    load_library(redis_client)
    assert execute(redis_client, ("FCALL", "adaserve_version", 0)) == 999


def test_constants_of_both_languages_agree() -> None:
    assert f"local GROUP = '{VERIFIER_GROUP}'" in LIBRARY
    assert f"local RETAIN_MS = {RETAIN_MS}" in LIBRARY
    assert f"local TOKENS_MAXLEN = {topics.TOKENS_MAXLEN}" in LIBRARY
    assert f"local CALIBRATION_TTL_S = {topics.CALIBRATION_TTL_S}" in LIBRARY
    assert f"local GONE_GATEWAY_MS = {topics.GONE_GATEWAY_MS}" in LIBRARY


def test_a_library_without_a_version_is_refused() -> None:
    with pytest.raises(ValueError, match="VERSION"):
        library_version("#!lua name=adaserve")


def test_a_lost_library_is_loaded_again_by_the_call_that_misses_it(cell: Cell) -> None:
    cell.begin()
    cell.client.function_flush()
    assert cell.commit(row(3, 1)) == [CommitStatus.OK]


def test_a_lost_library_is_loaded_again_within_a_pipelined_write(cell: Cell) -> None:
    cell.begin()
    cell.client.function_flush()
    request = commit(cell.keys, verifier="v.1", rows=[row(3, 1)])
    replies = send(cell.client, [("XLEN", cell.keys.dead), request.command(), ("XLEN", cell.keys.dead)])
    assert request.parse(replies[1]).results == (CommitStatus.OK,)
    assert replies[::2] == [0, 0]


async def test_the_asyncio_call_loads_the_library_too(redis_url: str, cell: Cell) -> None:
    client = connect_async(redis_url)
    try:
        cell.begin()
        cell.client.function_flush()
        found = await acall(
            client, attach(cell.keys, request="r", gateway="g.1", position=0, detached=b"detached", attachment=2)
        )
        assert (found.status, found.position) == ("running", 3)
        await aload_library(client)
    finally:
        await client.aclose()


def test_an_error_reply_in_a_pipeline_is_raised_when_parsed(cell: Cell) -> None:
    cell.client.function_flush()
    request = release(cell.keys, request="r", verifier="v.1", epoch="e")
    pipeline = cell.client.pipeline(transaction=False)
    pipeline.execute_command(*request.command())  # type: ignore[no-untyped-call]
    (reply,) = pipeline.execute(raise_on_error=False)
    with pytest.raises(BusUnavailable, match="Function not found") as caught:
        request.parse(reply)
    assert is_missing_function(caught.value.__cause__)


async def test_an_error_of_the_server_is_not_taken_for_a_lost_library(redis_url: str, cell: Cell) -> None:
    cell.client.set(cell.keys.request("r"), b"not a hash")
    request = release(cell.keys, request="r", verifier="v.1", epoch="e")
    client = connect_async(redis_url)
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        call(cell.client, request)
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await acall(client, request)
    await client.aclose()


async def test_a_version_that_cannot_be_asked_is_an_error(redis_url: str, redis_client: Redis) -> None:
    line = f"local VERSION = {library_version(LIBRARY)}"
    execute(redis_client, ("FUNCTION", "LOAD", LIBRARY.replace(line, "local VERSION = {err = 'broken'}")))
    client = connect_async(redis_url)
    with pytest.raises(ResponseError, match="broken"):
        load_library(redis_client)
    with pytest.raises(ResponseError, match="broken"):
        await aload_library(client)
    await client.aclose()


def test_whoever_owns_something_is_found_by_the_set_of_verifiers(cell: Cell) -> None:
    members = cell.keys.members("verifier")
    cell.begin()
    assert cell.client.smembers(members) == {b"v.1"}
    assert cell.run(forget_verifier(cell.keys, "v.1")) is Forgotten.PENDING
    assert cell.commit(row(3, 1, finish="stop")) == [CommitStatus.OK]
    cell.client.set(cell.keys.heartbeat("verifier", "v.1"), b"")
    assert cell.run(forget_verifier(cell.keys, "v.1")) is Forgotten.ALIVE
    cell.client.delete(cell.keys.heartbeat("verifier", "v.1"))
    assert cell.run(forget_verifier(cell.keys, "v.1")) is Forgotten.OK
    assert cell.client.smembers(members) == set()


def test_epochs_are_63_bits_of_hex_and_never_the_unowned_one() -> None:
    for epoch in (new_epoch() for _ in range(200)):
        assert 0 < int(epoch, 16) < 1 << 63
        assert len(epoch) == 16


# ---- enqueue ----


def a_known_id_is_not_enqueued_twice(cell: Cell) -> None:
    assert [cell.enqueue(), cell.enqueue()] == [Enqueued.OK, Enqueued.EXISTS]
    assert cell.client.xlen(cell.keys.requests(1)) == 1


def a_full_tier_takes_nothing_and_creates_nothing(cell: Cell) -> None:
    assert [cell.enqueue("r", limit=1), cell.enqueue("s", limit=1)] == [Enqueued.OK, Enqueued.FULL]
    assert not cell.client.exists(cell.keys.request("s"))


def test_the_entry_names_the_request_and_the_hash_holds_the_body(cell: Cell) -> None:
    cell.enqueue()
    found: Any = cell.client.xrange(cell.keys.requests(1))
    entry, fields = found[0]
    assert fields[b"body"] == b"r"
    assert fields[b"traceparent"] == b"00-aa-bb-01"
    assert float(fields[b"sent_at"]) > 0
    assert cell.hash("entry_id") == entry.decode()
    assert cell.client.hget(cell.keys.request("r"), "body") == ORIGIN.body


# ---- claim ----


def test_only_what_has_not_begun_expires() -> None:
    late = Claim(ClaimStatus.OK, enqueued_ms=1000.0, time_ms=1500.0, budget_ms=499.0)
    assert late.has_expired
    assert not replace(late, budget_ms=500.0).has_expired
    assert not replace(late, budget_ms=None).has_expired
    assert not replace(late, journal=(JournalEntry(5, pack(1)),)).has_expired


def test_a_claim_returns_all_it_takes_to_rebuild_and_removes_the_entry(cell: Cell) -> None:
    cell.begin()
    cell.commit(row(3, 5, 6))
    found = cell.claim("v.2", "e2", owner="v.1", expected="e1")
    assert (found.status, found.body, found.position, found.digest) == ("OK", ORIGIN.body, 5, "d5")
    assert (found.tenant, found.tier, found.seed, found.gateway) == ("acme", 1, 7, "g.1")
    assert (found.form, found.attachment) == (ORIGIN.form, 1)
    assert (found.traceparent, found.tokens) == ("00-aa-bb-01", pack(5, 6))
    assert found.first_token_ms is not None
    assert found.enqueued_ms <= found.first_token_ms <= found.time_ms
    assert found.queued_ms >= 0
    assert found.journal[0].start == 3
    assert cell.client.xlen(cell.keys.requests(1)) == 0
    assert (cell.owned("v.1"), cell.owned("v.2")) == (set(), {b"r"})


def test_a_claim_acknowledges_the_entry_it_deletes(cell: Cell) -> None:
    cell.client.xgroup_create(cell.keys.requests(1), VERIFIER_GROUP, id="0", mkstream=True)
    cell.enqueue()
    cell.client.xreadgroup(VERIFIER_GROUP, "v.1", {cell.keys.requests(1): ">"})
    cell.claim()
    pending: Any = cell.client.xpending(cell.keys.requests(1), VERIFIER_GROUP)
    assert pending["pending"] == 0


def test_a_repeated_claim_gives_the_same_answer_and_counts_nothing(cell: Cell) -> None:
    cell.begin()
    again = cell.claim()
    assert (again.status, again.crash_claims) == (ClaimStatus.OK, 0)


def test_a_claim_whose_reply_and_epoch_were_lost_is_taken_back_by_its_owner(cell: Cell) -> None:
    cell.begin()
    cell.beat("v.1")
    found = cell.claim("v.1", "e2", owner="v.1", expected="e1")
    assert (found.status, found.crash_claims, cell.hash("epoch")) == (ClaimStatus.OK, 0, "e2")
    assert cell.owned("v.1") == {b"r"}


def a_request_of_a_live_owner_is_not_claimed(cell: Cell) -> None:
    cell.begin()
    cell.beat("v.1")
    assert cell.claim("v.2", "e2", owner="v.1", expected="e1").status is ClaimStatus.OWNED
    cell.client.delete(cell.keys.heartbeat("verifier", "v.1"))
    assert cell.claim("v.2", "e2", owner="v.1", expected="e1").status is ClaimStatus.OK


def a_claim_with_an_old_epoch_or_owner_is_refused(cell: Cell) -> None:
    cell.begin()
    assert cell.claim("v.2", "e2").status is ClaimStatus.OWNED
    assert cell.claim("v.2", "e2", owner="v.1", expected="e0").status is ClaimStatus.OWNED
    assert cell.hash("owner") == "v.1"


def three_owners_dead_without_progress_are_poison(cell: Cell) -> None:
    cell.begin()
    claims = [cell.claim(f"v.{i + 1}", f"e{i + 1}", owner=f"v.{i}", expected=f"e{i}") for i in (1, 2, 3)]
    assert [found.status for found in claims] == ["OK", "OK", "POISON"]
    assert [found.crash_claims for found in claims] == [1, 2, 3]
    assert cell.hash("owner") == "v.3"
    assert cell.cancel(status=Terminal.POISONED, dead_reason="poison") is Cancelled.OK
    letters: Any = cell.client.xrange(cell.keys.dead)
    assert (letters[0][1][b"body"], letters[0][1][b"reason"]) == (b"r", b"poison")
    assert cell.owned("v.3") == set()
    assert (cell.hash("status"), cell.hash("finish")) == ("poisoned", "error")


def test_progress_and_releases_are_no_crashes(cell: Cell) -> None:
    cell.begin()
    cell.claim("v.2", "e2", owner="v.1", expected="e1")
    cell.commit(row(3, 1, epoch="e2"))
    assert cell.claim("v.3", "e3", owner="v.2", expected="e2").crash_claims == 0
    assert call(cell.client, release(cell.keys, request="r", verifier="v.3", epoch="e3")) is Released.OK
    assert cell.claim("v.1", "e4").crash_claims == 0


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("finish", ClaimStatus.FINISHED),
        ("cancel", ClaimStatus.CANCELLED),
        ("forget", ClaimStatus.MISSING),
    ],
)
def test_an_ended_or_forgotten_request_leaves_no_entry_and_no_owner(
    cell: Cell, end: str, status: ClaimStatus
) -> None:
    cell.begin()
    cell.client.sadd(cell.keys.owned("v.9"), "r")
    if end == "finish":
        cell.commit(row(3, 1, finish="stop"))
    elif end == "cancel":
        cell.cancel()
    else:
        cell.client.delete(cell.keys.request("r"))
    stream = cell.keys.requests(1)
    cell.client.xadd(stream, {"body": b"r"})
    command = claim(cell.keys, request="r", verifier="v.2", epoch="e2", entry_id=cell.entry(stream), stream=stream)
    assert call(cell.client, command).status is status
    assert cell.client.xlen(stream) == 0
    assert cell.claim("v.2", "e2", owner="v.9", expected="e1").status is status
    assert cell.owned("v.9") == set()


# ---- commit ----


def test_a_commit_appends_publishes_and_remembers_the_first_token(cell: Cell) -> None:
    cell.begin()
    first = call(cell.client, commit(cell.keys, verifier="v.1", rows=[row(3, 5, 6, event=b"\x00one")]))
    cell.commit(row(5, 7, event=b"two"))
    assert float(cell.hash("first_token_ms") or 0) == first.time_ms
    assert (cell.hash("position"), cell.hash("digest")) == ("6", "d6")
    journal: Any = cell.client.xrange(cell.keys.journal("r"))
    assert journal == [(b"5-0", {b"tokens": pack(5, 6)}), (b"6-0", {b"tokens": pack(7)})]
    events = cell.events()
    assert [event[b"body"] for event in events] == [b"\x00one", b"two"]
    assert float(events[0][b"committed_at"]) == first.time_ms
    assert events[0][b"traceparent"] == b"00-aa-bb-01"


def test_a_finish_expires_the_request_and_ends_its_ownership(cell: Cell) -> None:
    cell.begin()
    assert cell.commit(row(3, 1, finish="length", event=b"end")) == [CommitStatus.OK]
    assert (cell.hash("status"), cell.hash("finish"), cell.hash("terminal")) == ("finished", "length", "end")
    assert cell.owned("v.1") == set()
    for key in (cell.keys.request("r"), cell.keys.journal("r")):
        assert 0 < int(cell.client.pttl(key)) <= RETAIN_MS


def test_a_finish_without_tokens_is_committed_once(cell: Cell) -> None:
    cell.begin()
    assert cell.commit(row(3, finish="stop")) == [CommitStatus.OK]
    assert cell.commit(row(3, finish="stop")) == [CommitStatus.SAME]
    assert cell.client.exists(cell.keys.journal("r")) == 0
    assert cell.hash("first_token_ms") is None
    assert len(cell.events()) == 1


def a_repeated_commit_is_success_without_effect(cell: Cell) -> None:
    cell.begin()
    assert cell.commit(row(3, 1), row(3, 1)) == [CommitStatus.OK, CommitStatus.SAME]
    assert cell.cancel() is Cancelled.OK
    assert cell.commit(row(3, 1)) == [CommitStatus.SAME]


def an_old_epoch_is_fenced(cell: Cell) -> None:
    cell.begin()
    cell.claim("v.2", "e2", owner="v.1", expected="e1")
    assert cell.commit(row(3, 1)) == [CommitStatus.FENCED]
    assert cell.commit(row(3, 1, epoch="e2")) == [CommitStatus.OK]


def nobody_commits_to_or_releases_an_unowned_request(cell: Cell) -> None:
    cell.enqueue()
    assert cell.commit(row(3, 1, epoch="0")) == [CommitStatus.FENCED]
    assert cell.release("0") is Released.FENCED


def another_digest_is_fenced(cell: Cell) -> None:
    cell.begin()
    assert cell.commit(row(3, 1, start_digest="other")) == [CommitStatus.FENCED]
    assert cell.hash("position") == "3"


def another_position_is_fenced(cell: Cell) -> None:
    cell.begin()
    cell.commit(row(3, 1))
    assert cell.commit(row(2, 1, 2, 3, start_digest="d4")) == [CommitStatus.FENCED]
    assert cell.hash("position") == "4"


def a_forgotten_commit_is_behind(cell: Cell) -> None:
    cell.begin()
    assert cell.commit(row(4, 1)) == [CommitStatus.BEHIND]
    assert cell.hash("position") == "3"


def an_ended_request_takes_no_commit(cell: Cell) -> None:
    cell.begin()
    cell.cancel()
    assert cell.commit(row(3, 1)) == [CommitStatus.CANCELLED]
    assert cell.client.exists(cell.keys.journal("r")) == 0


def test_rows_stand_for_themselves(cell: Cell) -> None:
    cell.begin()
    cell.client.set(cell.keys.request("broken"), b"not a hash")
    rows = [row(3, 1, request="broken"), row(3, 1, request="unknown"), row(3, 1)]
    assert cell.commit(*rows) == [CommitStatus.ERROR, CommitStatus.MISSING, CommitStatus.OK]


def test_a_row_whose_journal_refuses_it_changes_nothing(cell: Cell) -> None:
    cell.begin()
    cell.client.set(cell.keys.journal("r"), b"not a stream")
    assert cell.commit(row(3, 1)) == [CommitStatus.ERROR]
    assert (cell.hash("position"), cell.events()) == ("3", [])


def test_a_gateway_without_stream_does_not_hinder_the_commit_and_gets_no_stream(cell: Cell) -> None:
    cell.enqueue(gateway="gone")
    cell.claim()
    assert cell.commit(row(3, 1)) == [CommitStatus.OK]
    assert cell.client.exists(cell.keys.tokens("gone")) == 0
    cell.client.set(cell.keys.tokens("gone"), b"not a stream")
    assert cell.commit(row(4, 1)) == [CommitStatus.OK]


def test_a_full_batch_is_one_call(cell: Cell) -> None:
    for index in range(MAX_COMMIT_ROWS):
        cell.client.hset(
            cell.keys.request(f"r{index}"),
            mapping={"epoch": "e1", "position": 3, "digest": "d3", "status": "running", "gateway": "g.1"},
        )
    rows = [row(3, 1, request=f"r{index}") for index in range(MAX_COMMIT_ROWS)]
    assert set(cell.commit(*rows)) == {CommitStatus.OK}
    assert cell.commit() == []
    with pytest.raises(ValueError, match="257 rows"):
        commit(cell.keys, verifier="v.1", rows=[*rows, row(3, 1)])


@pytest.mark.parametrize(
    "odd", [{"tokens": b"123"}, {"end": 9}, {"tokens": b"", "end": 3}, {"tokens": b"", "end": 3, "finish": "stop"}]
)
def test_rows_that_contradict_themselves_cannot_be_built(odd: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="tokens"):
        row(3, 1, **odd)


# ---- release ----


def test_a_released_request_waits_first_in_line_for_anyone(cell: Cell) -> None:
    cell.begin()
    assert cell.release() is Released.OK
    assert (cell.hash("owner"), cell.hash("epoch"), cell.owned("v.1")) == ("", "0", set())
    stream = cell.keys.released
    command = claim(cell.keys, request="r", verifier="v.2", epoch="e2", entry_id=cell.entry(stream), stream=stream)
    assert call(cell.client, command).status is ClaimStatus.OK
    assert cell.client.xlen(stream) == 0


def only_the_owner_releases(cell: Cell) -> None:
    cell.begin()
    assert cell.release("e0") is Released.FENCED
    assert cell.client.xlen(cell.keys.released) == 0


def an_ended_request_is_not_released(cell: Cell) -> None:
    assert cell.release() is Released.MISSING
    cell.begin()
    cell.cancel()
    assert cell.release() is Released.TERMINAL


# ---- cancel ----


def test_cancelling_a_queued_request_takes_its_entry_and_tells_its_gateway(cell: Cell) -> None:
    cell.enqueue()
    assert cell.cancel() is Cancelled.OK
    assert cell.client.xlen(cell.keys.requests(1)) == 0
    assert [event[b"body"] for event in cell.events()] == [b"cancelled"]
    assert 0 < int(cell.client.pttl(cell.keys.request("r"))) <= RETAIN_MS


def a_request_ends_once(cell: Cell) -> None:
    assert cell.cancel() is Cancelled.MISSING
    cell.begin()
    assert [cell.cancel(), cell.cancel()] == [Cancelled.OK, Cancelled.TERMINAL]
    assert len(cell.events()) == 1


# ---- attach ----


def test_attach_moves_the_reply_gateway_and_tells_the_previous_one(cell: Cell) -> None:
    cell.begin()
    cell.commit(row(3, 1, 2))
    cell.commit(row(5, 3))
    found = cell.attach(position=4)
    assert (found.status, found.position, found.digest) == ("running", 6, "d6")
    assert found.first_token_ms is not None
    assert found.enqueued_ms is not None
    assert found.last_token_ms is not None
    assert found.enqueued_ms < found.first_token_ms < found.last_token_ms
    assert [(entry.start, entry.end) for entry in found.journal] == [(3, 5), (5, 6)]
    assert cell.events("g.1")[-1][b"body"] == b"detached"
    assert cell.attach(position=4) == found
    assert len(cell.events("g.1")) == 3
    cell.commit(row(6, 4))
    assert len(cell.events("g.2")) == 1


def test_attach_to_an_ended_request_returns_its_last_event_and_detaches_nobody(cell: Cell) -> None:
    cell.begin()
    cell.commit(row(3, 1, finish="stop", event=b"last"))
    found = call(
        cell.client, attach(cell.keys, request="r", gateway="g.2", position=9, detached=b"x", attachment=2)
    )
    assert (found.status, found.finish, found.terminal, found.journal) == ("finished", "stop", b"last", ())
    assert cell.hash("gateway") == "g.1"
    gone = call(
        cell.client, attach(cell.keys, request="gone", gateway="g.2", position=0, detached=b"x", attachment=2)
    )
    assert gone.status == "MISSING"


def a_connection_does_not_take_back_what_another_has_taken(cell: Cell) -> None:
    cell.begin()
    assert cell.attach("g.2").status == "running"
    assert cell.attach("g.1", 1).status == "DETACHED"
    assert cell.hash("gateway") == "g.2"
    assert cell.attach("g.2", 2).status == "running"


def test_a_connection_that_asks_too_late_takes_nothing(cell: Cell) -> None:
    """Its first call was given up, and ran after the connection that was made next."""
    cell.begin()
    cell.attach("g.2", 3)
    assert (cell.attach("g.2", 2).status, cell.hash("attachment")) == ("DETACHED", "3")


def of_two_with_one_number_the_later_keeps_the_request(cell: Cell) -> None:
    cell.begin()
    cell.attach("g.2")
    cell.client.hset(cell.keys.request("r"), mapping={"gateway": "g.1", "attachment": "1"})  # Redis has forgotten
    assert cell.attach("g.3", 2).status == "running"
    assert cell.attach("g.2", 2).status == "DETACHED"


def test_the_later_connection_outlives_a_redis_that_forgot_it(cell: Cell) -> None:
    cell.begin()
    cell.attach("g.2")
    cell.client.hset(cell.keys.request("r"), mapping={"gateway": "g.1", "attachment": "1"})
    assert (cell.attach("g.2", 2).status, cell.hash("gateway"), cell.hash("attachment")) == ("running", "g.2", "2")
    assert cell.attach("g.1", 1).status == "DETACHED"


def test_a_request_from_before_there_were_numbers_has_its_first_connection(cell: Cell) -> None:
    cell.begin()
    cell.client.hdel(cell.keys.request("r"), "attachment", "form")
    assert (cell.attach("g.1", 1).status, cell.leave()) == ("running", Left.OK)
    cell.client.hdel(cell.keys.request("r"), "attachment")
    assert cell.claim("v.2", "e2", owner="v.1", expected="e1").form == b""
    assert cell.attach("g.2").status == "running"


# ---- leave ----


def test_who_leaves_is_told_nothing_more_and_may_come_back(cell: Cell) -> None:
    cell.begin()
    assert [cell.leave(), cell.leave()] == [Left.OK, Left.OK]
    cell.commit(row(3, 1))
    assert cell.events() == []
    assert cell.client.zcard(cell.keys.abandoned) == 1
    assert cell.attach("g.2").status == "running"
    assert cell.client.zcard(cell.keys.abandoned) == 0
    assert cell.events("g.1") == []


def a_connection_that_was_detached_cannot_leave(cell: Cell) -> None:
    cell.begin()
    cell.attach("g.2")
    assert cell.leave() is Left.ATTACHED
    assert (cell.hash("gateway"), cell.client.zcard(cell.keys.abandoned)) == ("g.2", 0)


def an_ended_request_is_not_left(cell: Cell) -> None:
    assert cell.leave() is Left.MISSING
    cell.begin()
    cell.cancel()
    assert cell.leave() is Left.TERMINAL


def test_what_is_overdue_is_named_and_cancelled(cell: Cell) -> None:
    cell.begin()
    cell.leave(grace_ms=0)
    assert cell.overdue() == ["r"]
    assert [cell.cancel(only_overdue=True), cell.hash("status")] == [Cancelled.OK, "cancelled"]
    assert cell.overdue() == []
    cell.client.zadd(cell.keys.abandoned, {"r": 0, "gone": 0})
    assert cell.cancel(only_overdue=True) is Cancelled.TERMINAL
    gone = cancel(cell.keys, request="gone", event=b"x", only_overdue=True)
    assert call(cell.client, gone) is Cancelled.MISSING
    assert cell.overdue() == []


def what_is_not_overdue_is_not_cancelled_as_such(cell: Cell) -> None:
    cell.begin()
    assert cell.cancel(only_overdue=True) is Cancelled.ATTACHED
    cell.leave()
    assert cell.overdue() == []
    assert cell.cancel(only_overdue=True) is Cancelled.ATTACHED
    assert cell.client.zcard(cell.keys.abandoned) == 1


def who_comes_back_in_time_is_not_cancelled(cell: Cell) -> None:
    cell.begin()
    cell.leave(grace_ms=0)
    cell.attach("g.2")
    assert cell.cancel(only_overdue=True) is Cancelled.ATTACHED
    assert cell.hash("status") == "running"


def a_connection_does_not_cancel_what_another_has_taken(cell: Cell) -> None:
    cell.begin()
    cell.attach("g.2", 2)
    cell.attach("g.1", 3)
    for connection in (("g.1", 1), ("g.2", 2), ("g.2", 3)):
        assert cell.cancel(connection=connection) is Cancelled.ATTACHED
    assert cell.cancel(connection=("g.1", 3)) is Cancelled.OK


def a_commit_that_no_gateway_hears_starts_the_grace(cell: Cell) -> None:
    cell.begin()
    cell.commit(row(3, 1))
    assert cell.client.zcard(cell.keys.abandoned) == 0
    cell.client.delete(cell.keys.tokens("g.1"))
    cell.commit(row(4, 1))
    at = cell.client.zscore(cell.keys.abandoned, "r")
    cell.commit(row(5, 1))
    assert at is not None
    assert cell.client.zscore(cell.keys.abandoned, "r") == at
    cell.commit(row(6, 1, finish="stop"))


# ---- log-probabilities ----


def test_log_probabilities_stand_in_the_journal_beside_their_tokens(cell: Cell) -> None:
    cell.begin()
    assert cell.commit(replace(row(3, 5, 6), logprobs=b"fivesix.")) == [CommitStatus.OK]
    assert cell.commit(row(5, 7)) == [CommitStatus.OK]
    found = cell.claim("v.2", "e2", owner="v.1", expected="e1")
    assert (found.tokens, found.logprobs) == (pack(5, 6, 7), b"fivesix.")
    entries = cell.attach().journal
    assert [(entry.start, entry.logprobs) for entry in entries] == [(3, b"fivesix."), (5, b"")]


def test_a_claim_tells_the_times_that_a_restore_needs_to_those_who_take_them(cell: Cell) -> None:
    origin = replace(ORIGIN, spent_ms=12.5)
    call(cell.client, enqueue(cell.keys, request="r", origin=origin, position=3, digest="d3", limit=9))
    first = cell.claim()
    assert (first.spent_ms, first.last_token_ms) == (12.5, None)
    cell.commit(row(3, 1))
    again = claim(cell.keys, request="r", verifier="v.2", epoch="e2", expected_owner="v.1", expected_epoch="e1")
    older = execute(cell.client, again.command()[:-1])
    assert again.parse(older).last_token_ms is None
    assert (len(older), len(execute(cell.client, again.command()))) == (19, 21)
    assert call(cell.client, again).last_token_ms == float(cell.hash("last_token_ms") or 0)


def test_log_probabilities_are_restored_with_their_tokens(cell: Cell) -> None:
    assert cell.reseed(pack(1, 2), logprobs=b"one.two.") is ReseedStatus.OK
    [entry] = cell.attach().journal
    assert (entry.tokens, entry.logprobs) == (pack(1, 2), b"one.two.")


def test_a_row_with_half_a_log_probability_is_refused() -> None:
    with pytest.raises(ValueError, match="logprobs"):
        replace(row(3, 5, 6), logprobs=b"odd")


# ---- reseed ----


def test_a_gateway_brings_a_forgotten_request_back_into_the_queue(cell: Cell) -> None:
    assert cell.reseed(pack(1, 2), first_token_ms=12.5) is ReseedStatus.OK
    stream = cell.keys.released
    command = claim(cell.keys, request="r", verifier="v.2", epoch="e2", entry_id=cell.entry(stream), stream=stream)
    found = call(cell.client, command)
    assert (found.status, found.position, found.digest, found.tokens) == ("OK", 5, "dx", pack(1, 2))
    assert (found.body, found.first_token_ms, found.tenant, found.tier) == (ORIGIN.body, 12.5, "acme", 1)
    assert (found.form, found.attachment) == (ORIGIN.form, 1)


def test_the_live_owner_restores_what_was_forgotten_and_goes_on(cell: Cell) -> None:
    cell.begin()
    assert cell.commit(row(5, 3)) == [CommitStatus.BEHIND]
    owner = {"owner": "v.1", "owner_epoch": "e1", "epoch": "e2"}
    assert cell.reseed(pack(1, 2), "d5", **owner) is ReseedStatus.OK
    assert cell.reseed(pack(1, 2), "d5", **owner) is ReseedStatus.OK
    assert cell.commit(row(5, 3)) == [CommitStatus.FENCED]
    assert cell.commit(row(5, 3, epoch="e2")) == [CommitStatus.OK]
    assert cell.owned("v.1") == {b"r"}
    cell.client.delete(cell.keys.request("r"), cell.keys.journal("r"), cell.keys.owned("v.1"))
    assert cell.commit(row(6, 3, epoch="e2")) == [CommitStatus.MISSING]
    again = {"owner": "v.1", "owner_epoch": "e2", "epoch": "e3"}
    assert cell.reseed(pack(1, 2, 3), "d6", **again) is ReseedStatus.OK
    assert cell.commit(row(6, 3, epoch="e3")) == [CommitStatus.OK]
    assert cell.owned("v.1") == {b"r"}


def the_longest_chain_wins(cell: Cell) -> None:
    cell.begin()
    cell.commit(row(3, 1, 2))
    assert cell.reseed(pack(9)) is ReseedStatus.UNNEEDED
    assert cell.reseed(pack(9, 9)) is ReseedStatus.UNNEEDED
    assert cell.hash("owner") == "v.1"
    assert cell.reseed(pack(9, 9, 9)) is ReseedStatus.OK
    assert cell.commit(row(5, 3)) == [CommitStatus.FENCED]


def what_the_client_has_seen_beats_another_chain(cell: Cell) -> None:
    cell.begin()
    cell.commit(row(3, 1, 2))
    assert cell.reseed(pack(9), contradiction=Contradiction(5, "other")) is ReseedStatus.UNNEEDED
    assert cell.reseed(pack(9), contradiction=Contradiction(5, "d5")) is ReseedStatus.OK
    assert (cell.hash("position"), cell.hash("digest")) == ("4", "dx")


def a_missing_journal_is_written_again(cell: Cell) -> None:
    cell.begin()
    cell.commit(row(3, 1))
    cell.client.delete(cell.keys.journal("r"))
    assert cell.reseed(pack(1), "d4") is ReseedStatus.OK
    assert cell.client.xlen(cell.keys.journal("r")) == 1


def only_the_owner_reseeds_as_owner(cell: Cell) -> None:
    cell.begin()
    assert cell.reseed(pack(1), owner="v.2", owner_epoch="e0", epoch="e9") is ReseedStatus.FENCED
    assert cell.hash("owner") == "v.1"


def an_ended_request_is_not_reseeded(cell: Cell) -> None:
    cell.begin()
    cell.cancel()
    assert cell.reseed(pack(1)) is ReseedStatus.TERMINAL


def test_a_chain_of_the_wrong_length_cannot_be_sent(keys: Keys) -> None:
    with pytest.raises(ValueError, match="do not fill"):
        reseed(keys, request="r", origin=ORIGIN, start=3, position=4, digest="d", tokens=b"")


# ---- removal: the example of a guard fails without it ----

GUARDS: dict[Scenario, tuple[str, str]] = {
    a_known_id_is_not_enqueued_twice: ("if redis.call('EXISTS', hash) == 1 then return 'EXISTS' end", ""),
    a_full_tier_takes_nothing_and_creates_nothing: (
        "if free <= 0 then return 'FULL' end",
        "",
    ),
    a_request_of_a_live_owner_is_not_claimed: (
        "if owner ~= '' and owner ~= verifier and is_alive(prefix, owner) then return 'OWNED' end",
        "",
    ),
    a_claim_with_an_old_epoch_or_owner_is_refused: (
        "if state.owner ~= owner or state.epoch ~= epoch then return 'OWNED' end",
        "",
    ),
    three_owners_dead_without_progress_are_poison: (
        "if crash_claims(state, verifier) >= POISON_AT then return 'POISON' end",
        "",
    ),
    a_repeated_commit_is_success_without_effect: (
        "if at_stop and (row.start ~= row.stop or status == 'finished') then return 'SAME' end",
        "",
    ),
    an_old_epoch_is_fenced: ("if not is_owner(epoch, row.epoch) then return 'FENCED' end", ""),
    nobody_commits_to_or_releases_an_unowned_request: (
        "epoch == held and epoch ~= UNOWNED_EPOCH",
        "epoch == held",
    ),
    another_digest_is_fenced: (
        "position == row.start and digest == row.start_digest",
        "position == row.start",
    ),
    another_position_is_fenced: (
        "position == row.start and digest == row.start_digest",
        "digest == row.start_digest",
    ),
    a_forgotten_commit_is_behind: ("if behind then return 'BEHIND' end", ""),
    an_ended_request_takes_no_commit: ("if TERMINAL[status] then return 'CANCELLED' end", ""),
    only_the_owner_releases: ("if not is_owner(state[1], epoch) then return 'FENCED' end", ""),
    an_ended_request_is_not_released: ("if TERMINAL[state[2]] then return 'TERMINAL' end", ""),
    a_request_ends_once: (
        "return 'MISSING' end\n  if TERMINAL[state.status] then return 'TERMINAL' end",
        "return 'MISSING' end",
    ),
    a_connection_does_not_take_back_what_another_has_taken: ("held > number or ", ""),
    of_two_with_one_number_the_later_keeps_the_request: (" or (held == number and state[7] ~= gateway)", ""),
    a_connection_that_was_detached_cannot_leave: (
        "if not is_attached(held_by, number, gateway, attachment) then return 'ATTACHED' end",
        "",
    ),
    an_ended_request_is_not_left: (
        "if TERMINAL[status] then return 'TERMINAL' end\n  if is_attached",
        "if is_attached",
    ),
    what_is_not_overdue_is_not_cancelled_as_such: ("redis.call('ZSCORE', abandoned, id) or math.huge", "0"),
    who_comes_back_in_time_is_not_cancelled: (
        "    redis.call('ZREM', abandoned, id)\n    if state[7]",
        "    if state[7]",
    ),
    a_connection_does_not_cancel_what_another_has_taken: (
        "state_gateway == gateway and (state_attachment or '1') == attachment",
        "state_gateway == gateway",
    ),
    a_commit_that_no_gateway_hears_starts_the_grace: ("reply == false and row.finish == ''", "false"),
    the_longest_chain_wins: (
        "if here < tonumber(given.position) then return 'OK' end",
        "do return 'OK' end",
    ),
    what_the_client_has_seen_beats_another_chain: (
        "if state.position == given.conflict_position and state.digest == given.conflict_digest then",
        "if given.conflict_position ~= '' then",
    ),
    a_missing_journal_is_written_again: (
        "if here > tonumber(given.start) and redis.call('EXISTS', journal) == 0 then return 'OK' end",
        "",
    ),
    only_the_owner_reseeds_as_owner: (
        "if given.owner ~= '' and (state.owner ~= given.owner or state.epoch ~= given.epoch) then",
        "if false then",
    ),
    an_ended_request_is_not_reseeded: (
        "given)\n  if TERMINAL[state.status] then return 'TERMINAL' end",
        "given)",
    ),
}


@pytest.mark.parametrize("scenario", GUARDS, ids=lambda scenario: scenario.__name__)
def test_guard(cell: Cell, scenario: Scenario) -> None:
    scenario(cell)


@pytest.mark.parametrize("scenario", GUARDS, ids=lambda scenario: scenario.__name__)
def test_guard_is_missed_when_removed(cell: Cell, scenario: Scenario) -> None:
    line, without = GUARDS[scenario]
    assert LIBRARY.count(line) == 1
    execute(cell.client, ("FUNCTION", "LOAD", LIBRARY.replace(line, without)))
    with pytest.raises(AssertionError):
        scenario(cell)


def test_memory_that_is_full_refuses_commits_whole_and_still_lets_cancel(cell: Cell, redis_url: str) -> None:
    cell.begin()
    admin = connect(redis_url)
    admin.config_set("maxmemory", "1")
    try:
        with pytest.raises(BusUnavailable, match="maxmemory"):
            cell.commit(row(3, 1))
        assert cell.hash("position") == "3"
        assert cell.cancel() is Cancelled.OK
    finally:
        admin.config_set("maxmemory", "0")
        admin.close()


def labelled(*numbers: int) -> LabelCounts:
    """So many labels in the first bins of bucket 0, half of them accepted."""
    counts = LabelCounts.none()
    counts.labels[0, 0, : len(numbers)] = numbers
    counts.accepted[0, 0, : len(numbers)] = [number // 2 for number in numbers]
    return counts


def known(cell: Cell) -> LabelCounts:
    return unpack_labels(read_labels(cell.client, cell.keys, "d:t"))


def add(cell: Cell, counts: LabelCounts, cap: int = 1000) -> None:
    cell.run(add_labels(cell.keys, pair="d:t", packed=counts.pack(), cap=cap))


def test_labels_add_up_and_live_for_a_day(cell: Cell) -> None:
    add(cell, labelled(10, 4))
    add(cell, labelled(2, 0, 6))
    assert known(cell).labels[0, 0, :3].tolist() == [12, 4, 6]
    assert known(cell).accepted[0, 0, :3].tolist() == [6, 2, 3]
    assert 0 < int(cell.client.ttl(cell.keys.calibration("d:t"))) <= topics.CALIBRATION_TTL_S


def test_labels_above_the_cap_are_halved_in_their_bucket_alone(cell: Cell) -> None:
    other = LabelCounts.none()
    other.labels[3, 0, 0] = 90
    add(cell, labelled(60, 30) + other, cap=100)
    add(cell, labelled(20, 1), cap=100)
    assert known(cell).labels[0, 0, :2].tolist() == [40, 15.5]
    assert known(cell).labels[3, 0, 0] == 90
    add(cell, labelled(1000), cap=100)
    assert known(cell).labels[0].sum() <= 100


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.integers(0, 9), drift=st.integers(0, 9))
def test_labels_follow_a_drift_within_a_few_caps(cell: Cell, start: int, drift: int) -> None:
    cell.client.delete(cell.keys.calibration("d:t"))
    for accepted in [start] * 60 + [drift] * 40:
        counts = LabelCounts.none()
        counts.labels[0, 0, 5], counts.accepted[0, 0, 5] = 10, accepted
        add(cell, counts, cap=100)
    rate = known(cell).accepted.sum() / known(cell).num_labels
    assert rate == pytest.approx(drift / 10, abs=0.02)


def test_labels_of_another_layout_are_forgotten(cell: Cell) -> None:
    cell.client.hset(cell.keys.calibration("d:t"), "0", b"an older release wrote this")
    add(cell, labelled(7))
    assert known(cell).num_labels == 7


def test_labels_that_nobody_can_have_written_are_refused(cell: Cell) -> None:
    cell.client.hset(cell.keys.calibration("d:t"), "first", bytes(4))
    with pytest.raises(UnreadableMessage, match="not a number"):
        known(cell)
