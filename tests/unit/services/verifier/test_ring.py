"""The ring's deadline and breaker."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.verifier.ring import MIN_DEADLINE_MS, PROBE_PERIOD_MS, Rest, Ring

CAP = 250.0


def round_trip(ring: Ring, at: float, took: float) -> bool:
    return ring.answered(ring.asked(at), at + took)


def test_a_reply_in_time_ends_the_wait() -> None:
    ring = Ring(0, CAP)
    step = ring.asked(0.0)
    assert ring.is_waiting
    assert ring.answered(step, 20.0)
    assert not ring.is_waiting
    assert ring.typical_ms == 20.0
    assert ring.soonest_ms <= ring.typical_ms


def test_the_cap_is_the_deadline_before_there_is_history() -> None:
    ring = Ring(0, CAP)
    ring.asked(100.0)
    assert ring.wait_ends_ms() == 100.0 + CAP
    assert not ring.has_missed(100.0 + CAP - 1)
    assert ring.has_missed(100.0 + CAP)


@given(st.lists(st.floats(0.1, 1000.0), min_size=1, max_size=100))
def test_the_deadline_is_twice_a_high_percentile_within_its_bounds(times: list[float]) -> None:
    ring = Ring(0, CAP)
    for number, took in enumerate(times):
        round_trip(ring, number * 10_000.0, took)
    assert MIN_DEADLINE_MS <= ring.deadline_ms <= CAP
    recent = sorted(times[-64:])
    assert ring.deadline_ms >= min(CAP, 2 * recent[len(recent) // 2]) - 1e-6


def test_a_miss_opens_the_breaker_and_probes_once_a_second() -> None:
    ring = Ring(0, CAP)
    ring.asked(0.0)
    ring.missed(CAP)
    assert ring.is_open
    assert not ring.is_waiting
    assert not ring.may_ask(PROBE_PERIOD_MS - 1)
    assert ring.may_ask(PROBE_PERIOD_MS)


def test_a_probe_within_the_cap_closes_the_breaker() -> None:
    ring = Ring(0, CAP)
    ring.asked(0.0)
    ring.missed(CAP)
    probe = ring.asked(1000.0)
    assert not ring.is_waiting  # nobody waits for a probe
    assert ring.answered(probe, 1000.0 + CAP)
    assert not ring.is_open


def test_a_slow_probe_leaves_it_open() -> None:
    ring = Ring(0, CAP)
    ring.asked(0.0)
    ring.missed(CAP)
    probe = ring.asked(1000.0)
    assert not ring.answered(probe, 1000.0 + CAP + 1)
    assert ring.is_open
    assert ring.may_ask(2000.0)


def test_a_breaker_that_opens_again_and_again_is_probed_ever_more_rarely() -> None:
    ring, now, openings = Ring(0, CAP), 0.0, []
    while now < 300_000.0:
        now += 10.0
        if ring.is_waiting:
            ring.missed(now)
            openings.append(now)
        elif ring.may_ask(now):
            step = ring.asked(now)
            if ring.is_open:
                ring.answered(step, now)  # every probe is quick, every request after it is late
    for at in openings[2:]:
        assert sum(at <= other < at + 60_000 for other in openings) <= 5
    assert sum(other >= 200_000 for other in openings) <= 4
    calm = ring.asked(now + 60_000)
    ring.answered(calm, now + 60_000)
    ring.asked(now + 120_000)
    ring.missed(now + 120_000 + CAP)
    assert ring.may_ask(now + 120_000 + PROBE_PERIOD_MS)


def test_only_the_outstanding_step_counts_but_late_ones_teach() -> None:
    ring = Ring(0, CAP)
    old = ring.asked(0.0)
    new = ring.asked(10.0)
    assert not ring.answered(old, 90.0)
    assert ring.is_waiting
    assert ring.answered(new, 95.0)
    assert ring.deadline_ms == 2 * 90.0


def test_unknown_steps_are_ignored() -> None:
    ring = Ring(0, CAP)
    assert not ring.answered(77, 0.0)
    assert ring.typical_ms == 0.0


def test_a_void_request_blames_nobody() -> None:
    ring = Ring(0, CAP)
    ring.asked(0.0)
    ring.void()
    assert ring.outstanding_step is None
    assert not ring.is_open
    with pytest.raises(ValueError, match="outstanding"):
        ring.wait_ends_ms()


def test_unanswered_requests_are_remembered_within_bounds() -> None:
    ring = Ring(0, CAP)
    steps = [ring.asked(float(number)) for number in range(200)]
    assert not ring.answered(steps[0], 300.0)
    assert ring.typical_ms == 0.0


def test_another_drafter_starts_with_a_closed_breaker() -> None:
    ring = Ring(0, CAP)
    round_trip(ring, 0.0, 200.0)
    ring.asked(1.0)
    ring.missed(CAP)
    ring.drafter_changed()
    assert (ring.is_open, ring.is_waiting, ring.typical_ms) == (False, False, 0.0)


def test_a_rest_is_twice_as_long_each_time_drafting_does_not_pay_again() -> None:
    rest, lengths = Rest(), []
    assert rest.is_over
    for _ in range(5):
        rest.told(0)
        steps = 0
        while not rest.is_over:
            rest.stepped()
            steps += 1
        lengths.append(steps)
    assert lengths == [4, 8, 16, 32, 32]
    rest.told(2)
    assert rest.is_over
    rest.told(0)
    assert not rest.is_over
    for _ in range(4):
        rest.stepped()
    assert rest.is_over  # it begins anew
