"""What ended requests add to the usage of their tenant and class, and how it is summed up."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgpack
import pytest
from redis import Redis

from services.gateway.form import Form
from shared.functions import LIBRARY, execute
from shared.records import CommitRow, Origin
from shared.replies import Reseeded
from shared.scripts import Call, Terminal, call, cancel, claim, commit, enqueue, release, reseed
from shared.topics import Keys
from shared.usage import Period, Row, Usage, add, entries, hours, total
from tests.used import usage_of

ORIGIN = Origin(
    body=b"",
    tenant="acme",
    tier=0,
    seed=1,
    gateway="",
    traceparent=None,
    slo_class="chatbot",
    tpot_ms=40.0,
    ttft_ms=500.0,
    spent_ms=20.0,
)
PROMPT = 5


class Served:
    """One request on a real server, with the times that the test gives it."""

    def __init__(self, client: Redis, keys: Keys, origin: Origin = ORIGIN) -> None:
        self.client, self.keys, self.position = client, keys, PROMPT
        call(
            client,
            enqueue(keys, request="r", origin=origin, position=PROMPT, digest=f"d{PROMPT}", limit=9),
        )
        self.claim("v.1", "e1")

    def claim(self, verifier: str, epoch: str, owner: str = "", expected: str = "0") -> None:
        taken = claim(
            self.keys,
            request="r",
            verifier=verifier,
            epoch=epoch,
            expected_owner=owner,
            expected_epoch=expected,
        )
        assert call(self.client, taken).status == "OK"

    def commit(self, num_tokens: int, epoch: str = "e1", finish: str = "", **stats: float) -> None:
        row = CommitRow(
            request="r",
            epoch=epoch,
            start=self.position,
            start_digest=f"d{self.position}",
            end=self.position + num_tokens,
            end_digest=f"d{self.position + num_tokens}",
            tokens=b"\0" * 4 * num_tokens,
            event=b"event",
            finish=finish,
            stats=msgpack.packb(stats) if stats else b"",
        )
        assert call(self.client, commit(self.keys, verifier="v", rows=[row, row])).results[0] == "OK"
        self.position += num_tokens

    def end(self, *, ttft_ms: float = 100.0, tpot_ms: float = 30.0, finish: str = "stop") -> None:
        """As if its four tokens had come with these times; a finish without tokens leaves them alone."""
        self.commit(4)
        first = float(self.hash("enqueued_ms")) + ttft_ms - ORIGIN.spent_ms
        times = {"first_token_ms": f"{first:.3f}", "last_token_ms": f"{first + 3 * tpot_ms:.3f}"}
        self.client.hset(self.keys.request("r"), mapping=times)
        self.commit(0, finish=finish)

    def hash(self, name: str) -> str:
        found: Any = self.client.hget(self.keys.request("r"), name)
        return "" if found is None else found.decode()

    @property
    def used(self) -> Usage:
        rows = usage_of(self.client, self.keys)
        assert {row[1:] for row in rows} <= {("acme", "chatbot")}
        return total(rows.values())


@pytest.fixture
def served(redis_client: Redis, keys: Keys) -> Served:
    return Served(redis_client, keys)


def test_a_finished_request_is_counted_once_with_what_its_verifier_told(served: Served) -> None:
    served.commit(3, num_steps=1, num_draft_tokens=4, num_accepted_draft_tokens=2, num_cached_tokens=2)
    served.commit(
        1, finish="stop", num_steps=2, num_draft_tokens=9, num_accepted_draft_tokens=2, num_cached_tokens=2
    )
    call(served.client, cancel(served.keys, request="r", event=b""))
    assert served.used == Usage(1, PROMPT, 2, 4, 9, 2, 2, 1, 0)


def test_it_stands_under_the_hour_of_redis_clock_for_ninety_days(served: Served) -> None:
    served.commit(1, finish="stop")
    seconds, _ = served.client.time()
    ((start, *_), _), *_ = usage_of(served.client, served.keys).items()
    assert timedelta(0) <= datetime.fromtimestamp(seconds, UTC) - start < timedelta(hours=1, seconds=5)
    (key,) = served.client.scan_iter(match=served.keys.usage("*"))
    assert 90 * 86_400 - 60 < int(served.client.ttl(key)) <= 90 * 86_400


@pytest.mark.parametrize(
    ("times", "met"),
    [
        ({}, True),
        ({"tpot_ms": 40.0}, True),
        ({"tpot_ms": 40.01}, False),
        ({"ttft_ms": 500.0}, True),
        ({"ttft_ms": 500.01}, False),
        ({"finish": "length"}, True),
    ],
)
def test_a_request_has_met_its_targets_or_missed_them(served: Served, times: dict[str, Any], met: bool) -> None:
    served.end(**times)
    assert (served.used.met, served.used.missed) == (met, not met)


def test_one_without_a_target_is_neither(redis_client: Redis, keys: Keys) -> None:
    free = Served(redis_client, keys, replace(ORIGIN, tpot_ms=float("inf"), ttft_ms=float("inf")))
    free.end(tpot_ms=1000.0)
    assert (free.used.requests, free.used.met, free.used.missed) == (1, 0, 0)


@pytest.mark.parametrize(
    ("options", "missed"),
    [({}, 0), ({"finish": "expired"}, 1), ({"status": Terminal.POISONED, "dead_reason": "poison"}, 1)],
)
def test_who_fails_or_expires_has_missed_and_who_leaves_has_not(
    served: Served, options: dict[str, Any], missed: int
) -> None:
    served.commit(2, num_draft_tokens=5)
    for _ in range(2):
        call(served.client, cancel(served.keys, request="r", event=b"", **options))
    assert served.used == Usage(1, PROMPT, 0, 2, 5, 0, 1, 0, missed)


def test_the_figures_of_all_owners_are_added_up_and_the_first_knows_what_was_cached(served: Served) -> None:
    served.commit(3, num_steps=1, num_draft_tokens=4, num_accepted_draft_tokens=2, num_cached_tokens=1)
    served.claim("v.2", "e2", owner="v.1", expected="e1")
    served.commit(2, "e2", num_steps=1, num_draft_tokens=3, num_accepted_draft_tokens=1, num_cached_tokens=5)
    back = release(
        served.keys, request="r", verifier="v.2", epoch="e2", stats=msgpack.packb({"num_draft_tokens": 4})
    )
    call(served.client, back)
    served.claim("v.3", "e3")
    served.commit(1, "e3", finish="stop", num_steps=1, num_draft_tokens=0)
    assert served.used == Usage(1, PROMPT, 1, 6, 8, 2, 3, 1, 0)


def restored(served: Served, origin: Origin = ORIGIN, **times: float) -> Call[Reseeded]:
    """Its owner has put it back with three tokens."""
    return reseed(
        served.keys,
        request="r",
        origin=origin,
        start=PROMPT,
        position=8,
        digest="d8",
        tokens=b"\0" * 12,
        owner="v.1",
        owner_epoch="e1",
        epoch="e2",
        **times,
    )


def test_what_was_restored_after_redis_forgot_is_counted_as_its_owner_tells(served: Served) -> None:
    served.commit(3)
    served.client.flushall()
    assert call(served.client, restored(served)).status == "OK"
    served.commit(1, "e2", finish="stop", num_steps=4)
    assert (served.used.prompt_tokens, served.used.output_tokens, served.used.steps) == (PROMPT, 4, 4)


ENQUEUED_MS = 1e12


@pytest.mark.parametrize(
    ("ttft_ms", "span_ms", "verdict"),
    [(470.0, 60.0, (1, 0)), (60_000.0, 60.0, (0, 1)), (470.0, 81.0, (0, 1))],
)
def test_a_restored_request_is_judged_by_its_own_times(
    served: Served, ttft_ms: float, span_ms: float, verdict: tuple[int, int]
) -> None:
    """Also where it ends without another token."""
    served.commit(3)
    served.client.flushall()
    first_ms = ENQUEUED_MS + ttft_ms
    times = {
        "enqueued_ms": ENQUEUED_MS,
        "first_token_ms": first_ms,
        "last_token_ms": first_ms + span_ms,
    }
    call(served.client, restored(served, **times))
    served.commit(0, "e2", finish="stop")
    assert (served.used.requests, served.used.output_tokens) == (1, 3)
    assert (served.used.met, served.used.missed) == verdict


def test_where_redis_lost_the_last_commits_the_later_time_counts(served: Served) -> None:
    served.commit(1)
    last_ms = float(served.hash("last_token_ms")) + 1_000
    call(served.client, restored(served, last_token_ms=last_ms))
    assert float(served.hash("last_token_ms")) == last_ms
    call(served.client, restored(served, last_token_ms=1.0))
    assert float(served.hash("last_token_ms")) == last_ms


@pytest.mark.parametrize(("num_tokens", "tpot_ms", "missed"), [(0, 40.0, 0), (1, 40.0, 1), (1, 1e15, 0)])
def test_what_an_older_release_restored_is_billed_without_a_guess(
    served: Served, num_tokens: int, tpot_ms: float, missed: int
) -> None:
    """It tells neither when the request was enqueued nor its last token's time."""
    served.commit(3)
    served.client.flushall()
    call(served.client, restored(served, replace(ORIGIN, tpot_ms=tpot_ms), first_token_ms=ENQUEUED_MS))
    served.commit(num_tokens, "e2", finish="stop")
    assert served.used == Usage(1, PROMPT, 0, 3 + num_tokens, steps=1 + num_tokens, missed=missed)


def test_a_verdict_that_cannot_be_had_does_not_undo_the_bill(redis_client: Redis, keys: Keys) -> None:
    served = Served(redis_client, keys, replace(ORIGIN, ttft_ms=float("inf")))
    served.commit(3)
    served.client.hdel(keys.request("r"), "first_token_ms", "last_token_ms")
    served.commit(0, finish="stop")
    assert served.used == Usage(1, PROMPT, 0, 3, steps=1)


@pytest.mark.parametrize(("index", "prompt", "cached"), [(0, PROMPT, 2), (1, 0, 0)])
def test_the_prompt_counts_with_the_first_of_its_choices(
    redis_client: Redis, keys: Keys, index: int, prompt: int, cached: int
) -> None:
    form = Form(endpoint="chat", model="m", created=0, index=index)
    served = Served(redis_client, keys, replace(ORIGIN, form=form.pack()))
    served.commit(2, finish="stop", num_cached_tokens=2)
    assert served.used == Usage(1, prompt, cached, 2, steps=1, met=1)


def test_a_hash_of_an_older_release_is_counted_by_its_journal(served: Served) -> None:
    served.commit(3)
    older = ("prompt_tokens", "slo_class", "tpot_ms", "ttft_ms", "spent_ms", "claims", "claimed_ms", "taken_ms")
    served.client.hdel(served.keys.request("r"), *older)
    served.commit(1, finish="stop")
    ((row, used),) = usage_of(served.client, served.keys).items()
    assert row[1:] == ("acme", "")
    assert used == Usage(1, PROMPT, 0, 4, 0, 0, 2)


def test_a_caller_of_an_older_release_commits_without_stats(served: Served) -> None:
    row = CommitRow(
        request="r",
        epoch="e1",
        start=PROMPT,
        start_digest=f"d{PROMPT}",
        end=PROMPT + 1,
        end_digest="d6",
        tokens=b"\0\0\0\0",
        event=b"event",
        finish="stop",
    )
    command = commit(served.keys, verifier="v", rows=[row]).command()
    assert command[-1] == b""
    assert execute(served.client, command[:-1])[1:] == [b"OK"]
    assert (served.used.requests, served.used.output_tokens) == (1, 1)


@pytest.mark.parametrize("stats", [b"\xc1", b"\x93\x01\x02\x03", msgpack.packb({"num_draft_tokens": "many"})])
def test_figures_that_cannot_be_read_do_not_undo_an_end(served: Served, stats: bytes) -> None:
    served.client.hset(served.keys.request("r"), "stats", stats)
    served.commit(1, finish="stop")
    assert served.hash("status") == "finished"
    assert served.used == Usage(1, PROMPT, 0, 1, 0, 0, 1, 1)


def test_the_hour_of_a_time_is_the_calendars(redis_client: Redis) -> None:
    code = LIBRARY[LIBRARY.index("local function hour_of") :]
    code = code[: code.index("\nend\n") + len("\nend\n")]
    told = "redis.register_function('hour', function(_, args) return hour_of(tonumber(args[1])) end)"
    execute(redis_client, ("FUNCTION", "LOAD", f"#!lua name=hours\n{code}\n{told}"))
    leap = datetime(2028, 2, 29, 23, 59, 59, 999_000)
    for at in [leap, *(datetime(1970, 1, 1) + timedelta(days=41.7 * number) for number in range(2000))]:
        at_ms = (at - datetime(1970, 1, 1)) / timedelta(milliseconds=1)
        assert execute(redis_client, ("FCALL", "hour", 0, repr(at_ms))) == at.strftime("%Y%m%d%H").encode()


START = datetime(2026, 11, 28, 22, 30, tzinfo=UTC)


def test_the_hours_of_a_period_are_all_that_it_touches() -> None:
    assert hours(START, START + timedelta(hours=2)) == ["2026112822", "2026112823", "2026112900"]
    assert hours(START, datetime(2026, 11, 29, tzinfo=UTC)) == ["2026112822", "2026112823"]
    assert hours(START, START) == ["2026112822"]
    assert hours(START.replace(minute=0), START.replace(minute=0)) == []


def test_rows_are_summed_by_hour_or_day_of_one_tenant_or_all() -> None:
    stored = {b"acme:chatbot": b"1 2 3 4 5 6 7 8 9", b"globex:batch": b"1 1 1 1 1 1 1 1 1 77"}
    found = [*entries("2026112822", stored), *entries("2026112823", stored)]
    day, hour = datetime(2026, 11, 28, tzinfo=UTC), datetime(2026, 11, 28, 22, tzinfo=UTC)
    by_day: dict[Row, Usage] = {}
    add(by_day, found, Period.DAY)
    assert by_day == {
        (day, "acme", "chatbot"): Usage(2, 4, 6, 8, 10, 12, 14, 16, 18),
        (day, "globex", "batch"): Usage(*[2] * 9),
    }
    by_hour: dict[Row, Usage] = {}
    for name in ("2026112822", "2026112823"):
        add(by_hour, entries(name, stored, "globex"), Period.HOUR)
    assert list(by_hour) == [(hour, "globex", "batch"), (hour + timedelta(hours=1), "globex", "batch")]
    assert total(by_hour.values()) == Usage(*[2] * 9)


def test_what_others_have_used_is_not_even_read() -> None:
    stored = {b"acme:chatbot": b"no number", b"acme:b:batch": b"1", b"b:batch": b"2"}
    assert [used.requests for _, used in entries("2026112822", stored, "b")] == [2]


def test_what_an_earlier_release_did_not_count_is_nothing() -> None:
    assert dict(entries("2026112822", {b"acme:": b"3 4"})) == {
        (datetime(2026, 11, 28, 22, tzinfo=UTC), "acme", ""): Usage(3, 4)
    }
