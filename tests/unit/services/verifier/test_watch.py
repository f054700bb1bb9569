"""When verification goes on without the draft (services/verifier/watch.py)."""

from __future__ import annotations

import itertools
import random

import pytest

from services.verifier.watch import (
    CAUTIOUS_DEPTH,
    CAUTIOUS_LESSONS,
    COLLAPSE_TREES,
    DWELL_MS,
    FIRST_PAUSE_MS,
    PREDICTIONS,
    TRIAL_TREES,
    Reason,
    State,
    Watch,
)

STEP_MS = 20.0


def steps(watch: Watch, count: int, start_ms: float, *, promised: float = 1.5, accepted: int = 1) -> float:
    """So many iterations with one tree each; the time after them."""
    for step in range(count):
        if watch.allows:
            watch.verified(promised, accepted)
        watch.turn(start_ms + step * STEP_MS)
    return start_ms + count * STEP_MS


def ended(watch: Watch) -> float:
    return steps(watch, COLLAPSE_TREES, 0.0, accepted=0)


def test_a_draft_whose_promises_come_true_is_left_alone() -> None:
    watch = Watch()
    steps(watch, 1_000, 0.0)
    assert (watch.state, watch.num_switches, watch.max_depth) == (State.FREE, 0, None)


def test_a_random_draft_is_off_within_fifty_iterations() -> None:
    watch = Watch()
    steps(watch, 50, steps(watch, 200, 0.0), accepted=0)
    assert not watch.allows
    assert watch.reason is Reason.COLLAPSE


def test_a_draft_that_promises_little_does_not_collapse() -> None:
    watch = Watch()
    steps(watch, 200, 0.0, promised=0.1, accepted=0)
    assert watch.allows


def test_it_is_tried_again_after_a_pause_and_freed_when_it_holds() -> None:
    watch = Watch()
    now = ended(watch)
    assert watch.reason is Reason.COLLAPSE
    now += FIRST_PAUSE_MS
    assert watch.turn(now)
    assert (watch.state, watch.max_depth) == (State.TRIAL, CAUTIOUS_DEPTH)
    steps(watch, TRIAL_TREES, now)
    assert (watch.state, watch.reason, watch.max_depth) == (State.FREE, None, None)


def test_failing_trials_are_ever_rarer_and_switches_at_most_three_a_minute() -> None:
    watch = Watch()
    ends: list[float] = []
    switches: list[float] = []
    for step in range(200_000):
        now = step * STEP_MS
        if watch.allows:
            watch.verified(1.5, 0)
        if watch.turn(now):
            switches.append(now)
            if not watch.allows:
                ends.append(now)
    pauses = [later - earlier for earlier, later in itertools.pairwise(ends)]
    assert pauses == sorted(pauses)
    assert pauses[-1] >= 8 * pauses[0]
    for at in switches:
        assert sum(at <= other < at + 60_000 for other in switches) <= 3


def test_drift_makes_cautious_and_ends_speculation_only_when_it_stays() -> None:
    chance = random.Random(3)

    def lesson(watch: Watch, off: float) -> None:
        watch.learned(16, 16.0, round(16 * (1.0 - off) + chance.uniform(-1, 1)))
        watch.turn(1e6)

    passing, staying = Watch(), Watch()
    for watch in (passing, staying):
        for _ in range(200):
            lesson(watch, 0.0)
        assert watch.state is State.FREE
        while watch.state is State.FREE:
            lesson(watch, 0.6)
        assert (watch.state, watch.max_depth, watch.reason) == (State.CAUTIOUS, CAUTIOUS_DEPTH, Reason.DRIFT)
        assert watch.doubts
    for _ in range(CAUTIOUS_LESSONS):
        lesson(passing, 0.0)  # the calibration has learned
    assert passing.state is State.FREE
    for _ in range(32):
        lesson(staying, 0.6)
    assert (staying.state, staying.reason) == (State.ENDED, Reason.DRIFT)


def test_drift_is_seen_within_a_few_lessons_and_not_without_a_cause() -> None:
    chance = random.Random(5)
    watch = Watch()
    for _ in range(2_000):
        expected = chance.uniform(8, 24)
        watch.learned(16, expected, round(chance.gauss(expected, 2.0)))
        watch.turn(1e6)
        assert watch.state is not State.ENDED
    watch.start_over()
    for count in range(1, 40):
        watch.learned(16, 16.0, 16 if count <= 10 else 4)
        watch.turn(1e6)
        if watch.state is not State.FREE:
            assert 10 < count <= 16
            return
    pytest.fail("no alarm")


def test_predictions_far_off_end_it_until_they_are_fine_again() -> None:
    watch = Watch()
    for _ in range(PREDICTIONS):
        watch.predicted(3.0)
    assert watch.turn(0.0)
    assert watch.reason is Reason.PREDICTION
    assert not watch.turn(DWELL_MS)
    watch.start_over()  # another drafter does not change how long forward passes take
    assert not watch.allows
    for _ in range(PREDICTIONS):
        watch.predicted(0.1)
    assert watch.turn(2 * DWELL_MS)
    assert watch.allows


def test_another_drafter_starts_with_a_clean_slate() -> None:
    watch = Watch()
    ended(watch)
    watch.start_over()
    assert (watch.state, watch.reason) == (State.FREE, None)
