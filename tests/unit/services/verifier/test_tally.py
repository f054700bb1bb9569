"""What a request's figures say of its time, and that nothing is counted twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgpack
import numpy as np
import pytest

from services.verifier.tally import Tally, Timekeeper, Totals
from shared.messages import NO_ROOM, SelectedTrees
from shared.modes import Mode
from tests.requests import request
from tests.ring import DRAFTER, TableRing

DRAWN = {"predicted_ms": 8.0, "alone_ms": 4.0, "rows": 2, "tokens": 7, "prompt_tokens": 1}


def stepped(tally: Tally, totals: Totals, *, num_nodes: int = 3, num_accepted: int = 1, why: str = "") -> None:
    tally.stepped(totals, num_nodes=num_nodes, num_accepted=num_accepted, is_late=num_nodes > 4, why_bare=why)


def turn(time: Timekeeper, clock_ms: float) -> Totals:
    """A wait of 5, a forward pass of 10; the commit of 2 comes after it."""
    time.waited(5.0)
    time.drew(10.0, **DRAWN)
    totals = time.at(clock_ms)
    time.committed(2.0)
    return totals


def test_a_requests_time_is_that_between_its_first_step_and_its_last() -> None:
    time, tally = Timekeeper(), Tally()
    for clock_ms in (100.0, 120.0, 145.0):
        stepped(tally, turn(time, clock_ms))
    told = tally.as_stats()
    assert (told["span_ms"], told["ring_ms"], told["forward_ms"], told["commit_ms"]) == (45.0, 10.0, 20.0, 4.0)
    assert (told["predicted_ms"], told["alone_ms"], told["other_prefill_ms"]) == (16.0, 8.0, 0.0)
    assert (told["batch_rows"], told["batch_tokens"], told["batch_prompt_tokens"]) == (4.0, 14.0, 2.0)
    assert (told["num_steps"], told["num_draft_tokens"], told["num_accepted_draft_tokens"]) == (3.0, 9.0, 3.0)


def test_what_others_had_before_it_came_is_not_its_own() -> None:
    time, tally = Timekeeper(), Tally()
    turn(time, 50.0)
    time.prefilled(7.0)
    stepped(tally, turn(time, 100.0))
    time.prefilled(4.0)
    stepped(tally, turn(time, 130.0))
    assert (tally.as_stats()["span_ms"], tally.as_stats()["other_prefill_ms"]) == (30.0, 4.0)


def test_while_it_is_preempted_nothing_is_its_own_but_the_absence() -> None:
    time, tally = Timekeeper(), Tally()
    stepped(tally, turn(time, 100.0))
    tally.preempted()
    for clock_ms in (120.0, 140.0):
        turn(time, clock_ms)
    stepped(tally, turn(time, 160.0))
    stepped(tally, turn(time, 180.0))
    told = tally.as_stats()
    assert (told["num_preemptions"], told["preempted_ms"]) == (1.0, 60.0)
    assert (told["span_ms"], told["forward_ms"], told["ring_ms"]) == (20.0, 10.0, 5.0)


def test_the_way_to_the_first_token_has_its_parts() -> None:
    tally = Tally()
    tally.claimed(10.0, is_begun=False)
    tally.compiled(40.0)
    tally.admitted(60.0)
    tally.admitted(90.0)  # after a preemption
    tally.fed(12.0)
    tally.fed(8.0)
    stepped(tally, Totals(clock_ms=100.0))
    tally.fed(99.0)  # its context again, after a preemption
    told = tally.as_stats()
    assert (told["compile_ms"], told["admit_ms"], told["prefill_ms"]) == (30.0, 20.0, 40.0)
    assert (told["prefill_forward_ms"], told["num_prefill_steps"], told["restart_ms"]) == (20.0, 2.0, 0.0)


def test_one_that_was_taken_over_begins_again_instead() -> None:
    tally = Tally()
    tally.claimed(10.0, is_begun=True)
    tally.admitted(20.0)
    tally.fed(12.0)
    stepped(tally, Totals(clock_ms=100.0))
    told = tally.as_stats()
    assert (told["restart_ms"], told["admit_ms"], told["prefill_ms"]) == (90.0, 0.0, 0.0)
    assert (told["num_prefill_steps"], told["prefill_forward_ms"]) == (0.0, 0.0)


def test_steps_without_a_tree_count_by_their_reasons() -> None:
    tally = Tally()
    for why in ("", "operator", "operator", "resting"):
        stepped(tally, Totals(), num_nodes=0 if why else 5, num_accepted=0, why=why)
    told = tally.as_stats()
    assert (told["num_spec_steps"], told["num_late_steps"]) == (1.0, 1.0)
    assert {name: value for name, value in told.items() if name.startswith("bare_")} == {
        "bare_operator": 2.0,
        "bare_resting": 1.0,
    }


def test_redis_is_told_at_the_first_step_and_now_and_then() -> None:
    tally, told = Tally(), []
    for step in range(1, 40):
        stepped(tally, Totals())
        told += [step] if tally.is_to_be_told else []
    assert told == [1, 17, 33]
    assert msgpack.unpackb(tally.packed())["num_steps"] == 39.0
    assert len(tally.as_stats()) < 50  # of the 64 that an event may have


def test_all_of_a_requests_time_on_a_verifier_is_somewhere(build: Any) -> None:
    ring = build()
    for number in (1, 2, 3):
        ring.submit(request(number, max_tokens=30, prompt=[1, 2, 3, 4, 5, 6, 7, 8, 9]))
    for delivery in ring.run().values():
        told = delivery.stats
        assert told is not None
        parts = sum(told[name] for name in ("ring_ms", "forward_ms", "other_prefill_ms", "commit_ms"))
        assert 0 < told["forward_ms"] < parts < told["span_ms"]
        assert told["num_steps"] == told["num_spec_steps"] + sum(
            value for name, value in told.items() if name.startswith("bare_")
        )
        assert told["num_prefill_steps"] >= 1
        assert told["prefill_ms"] >= told["prefill_forward_ms"] > 0
        assert told["batch_rows"] >= told["num_steps"] - 1


BARE: dict[str, tuple[str, dict[str, Any], Callable[[TableRing], object]]] = {
    "client": ("not_wanted", {"speculation": False}, lambda ring: None),
    "order": ("operator", {}, lambda ring: ring.order(Mode.FULL_VERIFICATION)),
    "no drafter": ("no_drafter", {}, lambda ring: ring.client.delete(ring.keys.heartbeat("drafter", DRAFTER))),
    "breaker": ("ring_deadline", {}, lambda ring: setattr(ring.bus, "is_silent", True)),
    "drafter without room": ("drafter_behind", {}, lambda ring: answer(ring, acknowledged=NO_ROOM)),
    "no node": ("not_selected", {}, lambda ring: answer(ring, acknowledged=None)),
}


def answer(ring: TableRing, acknowledged: int | None) -> None:
    """Replies without trees, and with this position for each row."""

    def emptied(reply: SelectedTrees) -> SelectedTrees:
        rows = len(reply.request)
        held = reply.acknowledged if acknowledged is None else np.full(rows, acknowledged, np.int32)
        none = {name: getattr(reply, name)[:0] for name in ("tokens", "parents", "logprobs", "phase")}
        return replace(reply, tree_offsets=np.zeros(rows + 1, np.int32), acknowledged=held, **none)

    ring.bus.tamper = emptied


@pytest.mark.parametrize("why", BARE)
def test_why_a_request_had_no_tree_is_known(build: Any, why: str) -> None:
    reason, asked, make = BARE[why]
    ring = build()
    ring.submit(request(1, max_tokens=40, prompt=[1, 2, 3], ignore_eos=True, **asked))
    make(ring)
    (delivery,) = ring.run().values()
    assert delivery.stats is not None
    bare = {name: count for name, count in delivery.stats.items() if name.startswith("bare_")}
    assert max(bare, key=lambda name: bare[name]) == f"bare_{reason}", bare
    assert bare["bare_first_step"] == 1


def test_steps_in_which_a_need_could_not_be_met_are_counted(build: Any) -> None:
    ring = build()
    ring.bus.tamper = lambda reply: replace(reply, late=np.ones(len(reply.request), np.bool_))
    ring.submit(request(1, max_tokens=30, prompt=[1, 2, 3], ignore_eos=True))
    (delivery,) = ring.run().values()
    assert delivery.stats is not None
    assert delivery.stats["num_late_steps"] == delivery.stats["num_spec_steps"] > 3


def test_what_a_verifier_has_told_is_there_for_the_next_one(build: Any) -> None:
    """Given back in the middle: Redis has its figures up to the last step."""
    ring = build()
    ring.submit(request(1, max_tokens=150, prompt=[1, 2, 3], ignore_eos=True))
    ring.turn(12)
    (generation,) = ring.scheduler.running
    steps = generation.tally.num_steps
    ring.engine.drain(lambda: True)
    told = msgpack.unpackb(ring.client.hget(ring.keys.request(generation.id), "stats"))
    assert told["num_steps"] == steps > 0
