"""Every cause of a missed target is found where it is, and the shares add up to the miss."""

from __future__ import annotations

import math
import uuid
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from services.gateway import causes
from services.gateway.explanation import HELP, LIFTS, WHY_BARE, explained
from services.gateway.history import FIELDS, History, unpack
from services.verifier.governor import NO_DRAFTER, OPERATOR, RING
from services.verifier.watch import Reason
from shared.records import Origin
from shared.scripts import call, claim, enqueue, release
from shared.topics import Keys
from tests.unit.services.gateway.histories import CALM, history, later, slower

PLAIN = {"num_spec_steps": 0.0, "num_draft_tokens": 0.0, "num_accepted_draft_tokens": 0.0}

TPOT: dict[str, tuple[History, str]] = {
    "ring": (slower(2_000, {"ring_ms": 3_000.0}), "waiting for the drafter's trees"),
    "batch": (
        slower(2_000, {"forward_ms": 4_400.0, "predicted_ms": 4_400.0, "batch_rows": 1_400.0}),
        "passes were for 14.0 requests",
    ),
    "prefills": (slower(2_000, {"other_prefill_ms": 2_000.0}), "passes that only fed other prompts"),
    "commit": (slower(2_000, {"commit_ms": 2_200.0}), "commits to Redis, 22.0 ms a step"),
    "preempted": (
        slower(2_000, {"span_ms": 4_000.0, "preempted_ms": 2_000.0, "num_preemptions": 2.0}),
        "its KV was given up twice",
    ),
    "moved": (
        slower(2_000, {"span_ms": 4_000.0, "restart_ms": 500.0}, idle_ms=1_500.0, takeovers=1),
        "it changed verifiers once, and lay 1500 ms without one",
    ),
    "bookkeeping": (slower(2_000, {}), "the verifier's own work between passes"),
    "unexplained": (slower(2_000, {"span_ms": 4_000.0}), "is not explained"),
    "machine": (
        slower(2_500, {"alone_ms": 6_400.0, "forward_ms": 6_400.0, "ring_ms": 0.0, "commit_ms": 0.0, **PLAIN}),
        "even alone a pass takes 64.0 ms here, and a pass brought 2.00 tokens: nothing was speculated",
    ),
    "unspeculated": (
        slower(
            0,
            {"num_spec_steps": 21.0, "num_accepted_draft_tokens": 105.0, "bare_operator": 80.0, "ring_ms": 10.0},
            last_token_ms=6_115.0,
        ),
        "80 of 101 steps were without speculation: an operator's order (80)",
    ),
}

TTFT: dict[str, tuple[History, str]] = {
    "gateway": (later(0, spent_ms=300.0), "checks, tokenizing"),
    "queue": (later(400, claimed_ms=1_410.0, taken_ms=1_410.0), "waiting in the queue"),
    "moved": (later(400, taken_ms=1_410.0, takeovers=1), "it changed verifiers once before its first token"),
    "schema": (later(400, {"compile_ms": 400.0}), "compiling its JSON Schema"),
    "room": (later(400, {"admit_ms": 400.0}), "room for its KV"),
    "turns": (later(400, {"prefill_ms": 500.0}), "between the passes of its own prompt"),
    "prompt": (
        later(400, {"prefill_ms": 500.0, "prefill_forward_ms": 480.0}),
        "its own prompt of 64 tokens, 0 of them cached, fed twice",
    ),
    "unexplained": (later(400), "is not explained"),
}


@pytest.mark.parametrize("cause", TPOT)
def test_the_cause_of_a_slow_pace_is_named_first(cause: str) -> None:
    account, words = TPOT[cause]
    miss = causes.tpot(account)
    assert miss is not None
    assert miss.is_missed
    assert miss.parts[0].name == cause
    assert any(words in sentence for sentence in explained(account)), explained(account)


@pytest.mark.parametrize("cause", TTFT)
def test_the_cause_of_a_late_first_token_is_named_first(cause: str) -> None:
    account, words = TTFT[cause]
    miss = causes.ttft(account)
    assert miss is not None
    assert miss.is_missed
    assert miss.parts[0].name == cause
    assert any(words in sentence for sentence in explained(account)), explained(account)


@pytest.mark.parametrize("account", [account for account, _ in [*TPOT.values(), *TTFT.values()]])
def test_the_shares_add_up_to_the_miss_and_the_parts_to_the_time(account: History) -> None:
    for miss in (causes.tpot(account), causes.ttft(account)):
        assert miss is not None
        assert sum(part.ms for part in miss.parts) == pytest.approx(miss.actual_ms)
        assert sum(part.share_ms for part in miss.parts) == pytest.approx(max(0.0, miss.excess_ms))


figures = st.floats(0.0, 10_000.0)


@given(
    stats=st.fixed_dictionaries({}, optional=dict.fromkeys([*CALM, "bare_operator", "preempted_ms"], figures)),
    idle_ms=figures,
    last_ms=st.floats(0.0, 20_000.0),
    target_ms=st.floats(0.01, 1e4),
)
def test_whatever_a_verifier_tells_adds_up(
    stats: dict[str, float], idle_ms: float, last_ms: float, target_ms: float
) -> None:
    odd: dict[str, Any] = {"last_token_ms": 1_115.0 + last_ms, "idle_ms": idle_ms, "ttft_target_ms": target_ms}
    account = history(stats, tpot_target_ms=target_ms, **odd)
    for miss in (causes.tpot(account), causes.ttft(account)):
        if miss is not None:
            assert min((part.share_ms for part in miss.parts), default=0.0) >= 0.0
            assert sum(part.ms for part in miss.parts) == pytest.approx(miss.actual_ms, abs=1e-6)
            assert sum(part.share_ms for part in miss.parts) == pytest.approx(max(0.0, miss.excess_ms), abs=1e-6)
    assert explained(account)


def test_a_request_that_met_its_targets_is_told_how_much_room_there_was() -> None:
    assert explained(history())[:3] == [
        "It met its targets: 201 tokens, class chatbot.",
        "TTFT was 120 ms against a target of 500 ms: 380 ms to spare.",
        "TPOT was 20.0 ms against a target of 30.0 ms: 10.0 ms a token to spare.",
    ]


def test_a_miss_is_told_with_its_shares_and_what_helps() -> None:
    told = explained(TPOT["ring"][0])
    assert told[0] == "It missed its targets: 201 tokens, class chatbot."
    assert told[2] == "TPOT was 30.0 ms against a target of 20.0 ms: 10.0 ms a token too many."
    assert told[3] == "Of these, 7.5 ms: waiting for the drafter's trees, 30.0 ms a step."
    helps = "a faster or nearer drafter and selector, or a lower depth (docs/protocol.md, the ring)"
    assert f"What helps: {helps}." in told
    assert told[-1] == "101 of its 101 steps verified trees of 4.0 tokens, of which 1.00 were accepted on average."


def without_trees(target_ms: float, **reasons: float) -> History:
    """24 tokens of 8 ms in 24 steps, of which passes alone are 4.4 ms and the loop's own work the rest."""
    stats = {
        **dict.fromkeys(CALM, 0.0),
        "num_steps": 24.0,
        "span_ms": 184.0,
        "forward_ms": 101.2,
        "predicted_ms": 101.2,
        "alone_ms": 101.2,
        "bare_first_step": 1.0,
        **{f"bare_{why}": count for why, count in reasons.items()},
    }
    odd = {"output_tokens": 24, "last_token_ms": 1_115.0 + 184.0, "ttft_target_ms": math.inf}
    return history(stats, tpot_target_ms=target_ms, **odd)


@pytest.mark.parametrize(
    ("target_ms", "reasons", "withheld", "helps"),
    [
        (
            3.0,
            {"operator": 23.0},
            "an operator's order (23)",
            "withdrawing the order, `adaserve mode auto --class chatbot`",
        ),
        (
            6.0,
            {"operator": 23.0},
            "an operator's order (23)",
            "withdrawing the order, `adaserve mode auto --class chatbot`",
        ),
        (3.0, {"no_drafter": 23.0}, "there was no drafter (23)", "a running drafter"),
        (3.0, {"not_wanted": 23.0}, None, "a client that lets it be speculated on"),
        (3.0, {}, None, "speculation"),
    ],
)
def test_a_lack_of_speculation_is_told_before_what_could_not_make_up_for_it(
    target_ms: float, reasons: dict[str, float], withheld: str | None, helps: str
) -> None:
    told = explained(without_trees(target_ms, **reasons))
    (help_told,) = [sentence for sentence in told if sentence.startswith("What helps")]
    assert help_told.startswith(f"What helps: {helps}")
    cannot = "Even alone a pass takes 4.4 ms here: this target cannot be had without speculation."
    assert (cannot in told) == (target_ms < 4.4)
    first = f"Speculation was withheld from 23 of its 24 steps: {withheld}."
    assert (first in told) == (withheld is not None)
    of_these = next(number for number, sentence in enumerate(told) if sentence.startswith("Of these"))
    assert all(told.index(sentence) < of_these for sentence in (cannot, first) if sentence in told)
    assert ("more CPU" in help_told) == (target_ms > 4.4)


def test_a_target_below_a_pass_alone_is_not_blamed_on_smaller_parts() -> None:
    miss = causes.tpot(without_trees(3.0, operator=23.0))
    assert miss is not None
    assert [part.name for part in miss.parts] == ["machine", "bookkeeping"]


def test_trees_withheld_from_most_steps_come_first_where_only_they_could_meet_the_target() -> None:
    stats = {"num_spec_steps": 21.0, "num_accepted_draft_tokens": 21.0, "bare_operator": 80.0, "ring_ms": 10.0}
    account = history(stats, tpot_target_ms=15.0)
    miss = causes.tpot(account)
    assert miss is not None
    assert miss.parts[0].name == "unspeculated"
    assert any(sentence.startswith("What helps: withdrawing the order") for sentence in explained(account))


def test_one_is_told_as_one() -> None:
    account = history({"num_steps": 1.0, "num_spec_steps": 0.0, "bare_first_step": 1.0}, output_tokens=1)
    told = explained(account)
    assert told[0].endswith(": 1 token, class chatbot.")
    assert "Its only step was not speculative: the first step never has a tree (1)." in told
    assert explained(history(ttft_target_ms=math.inf))[0].startswith("It met its target:")
    assert explained(history(ttft_target_ms=1.0, tpot_target_ms=math.inf))[0].startswith("It missed its target:")


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        ({"status": "cancelled", "finish": "cancelled"}, "Its client left"),
        ({"status": "cancelled", "finish": "expired", "first_token_ms": None}, "deadline was over"),
        ({"status": "poisoned", "finish": "error"}, "It failed and went to the dead letters"),
        ({"status": "queued", "finish": "", "first_token_ms": None, "output_tokens": 0}, "waits in its queue"),
        ({"status": "running", "finish": ""}, "is being served"),
        ({"tpot_target_ms": float("inf"), "ttft_target_ms": float("inf")}, "It had no target to meet"),
    ],
)
def test_every_way_a_request_can_stand_has_its_words(odd: dict[str, Any], words: str) -> None:
    assert words in explained(history(**odd))[0]


def test_what_is_uncertain_is_said() -> None:
    assert "may be missing" in explained(history(takeovers=1))[-1]
    assert "up to 16 steps old" in explained(history(status="running", finish=""))[-1]
    told = explained(history({"predicted_ms": 1_200.0, "num_late_steps": 60.0}))
    assert "Passes took 100% longer than predicted, so budgets were too large." in told
    assert "In 59% of its steps the budget could not hold what its target needed." in told


@pytest.mark.parametrize("finish", ["cancelled", "expired"])
def test_of_one_that_was_ended_from_outside_the_last_steps_may_be_missing(finish: str) -> None:
    account = history(status="cancelled", finish=finish)
    assert account.is_partial
    assert "up to 16 steps old" in explained(account)[-1]
    assert "steps old" not in " ".join(explained(history(status="cancelled", finish=finish, claimed_ms=None)))
    assert not history().is_partial


def test_of_one_whose_beginning_redis_has_forgotten_no_ttft_is_made_up() -> None:
    lost = history(enqueued_ms=61_000.0)
    assert (lost.ttft_ms, lost.verdict) == (None, "none")
    told = explained(lost)
    assert told[0].startswith("Whether it met its targets is not known")
    assert "Its TTFT is not known: Redis had forgotten when it came." in told
    assert history(enqueued_ms=61_000.0, tpot_target_ms=1.0).verdict == "missed"
    assert history(enqueued_ms=61_000.0, ttft_target_ms=float("inf")).verdict == "met"


stage = st.floats(0.0, 1_000.0)
stages = st.fixed_dictionaries(dict.fromkeys(["compile_ms", "admit_ms", "turns_ms", "prompt_ms"], stage))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(waited_ms=stage, owners=st.lists(stages, min_size=1, max_size=4), idle_ms=stage)
def test_who_changes_verifiers_before_its_first_token_is_told_no_time_twice(
    redis_client: Redis, waited_ms: float, owners: list[dict[str, float]], idle_ms: float
) -> None:
    """Of the true lengths of all stages, no part is longer than what happened, and they add up."""
    keys, request = Keys("causes"), uuid.uuid4().hex
    origin = Origin(body=b"", tenant="acme", tier=0, seed=1, gateway="", traceparent=None)
    call(redis_client, enqueue(keys, request=request, origin=origin, position=5, digest="d5", limit=99))
    at_ms = claimed_ms = 1_000.0 + waited_ms
    taken_ms = claimed_ms
    for number, owner in enumerate(owners):
        taken_ms = at_ms
        call(redis_client, claim(keys, request=request, verifier="v.1", epoch=f"e{number}"))
        at_ms += sum(owner.values())
        told = {name: owner[name] for name in ("compile_ms", "admit_ms")}
        told |= {"prefill_forward_ms": owner["prompt_ms"], "num_prefill_steps": 1.0}
        if number < len(owners) - 1:
            at_ms += idle_ms
            command = release(keys, request=request, verifier="v.1", epoch=f"e{number}", stats=msgpack.packb(told))
            call(redis_client, command)
    told["prefill_ms"] = owner["turns_ms"] + owner["prompt_ms"]
    times = {"enqueued_ms": 1_000.0, "claimed_ms": claimed_ms, "taken_ms": taken_ms, "first_token_ms": at_ms}
    mapping: dict[str, Any] = {**times, "stats": msgpack.packb(told)}
    redis_client.hset(keys.request(request), mapping=mapping)
    found: Any = redis_client.hmget(keys.request(request), *FIELDS)
    account = unpack(request, found)
    assert account is not None
    miss = causes.ttft(account)
    assert miss is not None
    happened = {
        "queue": waited_ms,
        "moved": taken_ms - claimed_ms,
        "schema": owner["compile_ms"],
        "room": owner["admit_ms"],
        "turns": owner["turns_ms"],
        "prompt": owner["prompt_ms"],
    }
    parts = {part.name: part.ms for part in miss.parts}
    assert sum(parts.values()) == pytest.approx(at_ms - 1_000.0, abs=1e-3)
    for name, ms in parts.items():
        assert ms <= happened.get(name, 0.0) + 1e-3, name


def test_every_part_has_a_remedy_and_every_reason_its_words() -> None:
    parts = {part.name for account, _ in [*TPOT.values(), *TTFT.values()] for part in _parts(account)}
    assert parts - {"unexplained", "unspeculated"} == set(HELP)
    assert set(causes.WITHHELD) <= set(LIFTS) <= set(WHY_BARE)
    assert {OPERATOR, NO_DRAFTER, RING, *Reason} <= set(causes.WITHHELD) <= set(WHY_BARE)


def _parts(account: History) -> list[causes.Part]:
    return [part for miss in (causes.tpot(account), causes.ttft(account)) if miss for part in miss.parts]


def test_a_hash_of_an_older_release_is_told_as_far_as_it_goes() -> None:
    held = {"status": b"finished", "finish": b"stop", "tenant": b"acme", "position": b"9", "enqueued_ms": b"5.5"}
    account = unpack("0" * 32, [held.get(name) for name in FIELDS])
    assert account is not None
    assert (account.verdict, account.output_tokens, account.stats) == ("none", 0, {})
    assert explained(account)
    assert unpack("0" * 32, [None] * len(FIELDS)) is None


@pytest.mark.parametrize("packed", [b"\xc1", b"\x01", b"\x91\x01", b"\x81\x01\x02", b"\x81\xa1a\xa1b"])
def test_figures_that_cannot_be_read_are_none(packed: bytes) -> None:
    held = {"status": b"running", "position": b"9", "stats": packed}
    account = unpack("0" * 32, [held.get(name) for name in FIELDS])
    assert account is not None
    assert account.stats == {}
