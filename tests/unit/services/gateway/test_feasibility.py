"""What may be promised at a load, and how long a backlog takes."""

from __future__ import annotations

import math

import pytest

from services.gateway.expectation import FIRST_GUESS, TypicalOutput
from services.gateway.feasibility import Pace, achievable_tpot_ms, drain_s, is_reachable

BUSY = Pace(running=8, tokens_per_s=500.0, period_ms=40.0, favoured_tokens=2.5)


def test_a_favoured_request_gets_what_the_largest_tree_gets() -> None:
    assert achievable_tpot_ms([BUSY], speculation=True) == 16.0
    assert achievable_tpot_ms([BUSY], speculation=False) == 40.0


def test_the_best_verifier_counts() -> None:
    slower = Pace(running=30, tokens_per_s=500.0, period_ms=90.0, favoured_tokens=2.5)
    assert achievable_tpot_ms([slower, BUSY], speculation=True) == 16.0


@pytest.mark.parametrize("other", [Pace(), Pace(running=0, period_ms=80.0), Pace(running=4)])
def test_an_idle_or_silent_verifier_can_do_what_an_idle_one_does(other: Pace) -> None:
    assert achievable_tpot_ms([BUSY, other], speculation=True) is None
    assert achievable_tpot_ms([], speculation=True) is None


def test_what_a_tree_would_bring_is_tried_where_nobody_has_had_one() -> None:
    """Nobody needed one so far: that does not say that the next request would get none."""
    relaxed = Pace(running=1, period_ms=10.0)
    assert achievable_tpot_ms([relaxed], speculation=True) is None
    assert achievable_tpot_ms([relaxed], speculation=False) == 10.0


def test_in_full_verification_mode_a_step_brings_one_token() -> None:
    plain = Pace.of({"running": 1, "period_ms": 10.0, "favoured_tokens": 3.0, "mode": "full_verification"})
    assert achievable_tpot_ms([plain], speculation=True) == 10.0


def test_a_little_better_than_measured_is_tried() -> None:
    assert is_reachable(13.0, 16.0)
    assert not is_reachable(12.0, 16.0)
    assert is_reachable(0.1, None)


def test_a_heartbeat_without_or_with_odd_figures_is_unknown() -> None:
    assert Pace.of({"running": 3, "tokens_per_s": 5.0, "period_ms": 1.0, "favoured_tokens": 1.5}) == Pace(
        3, 5.0, 1.0, 1.5
    )
    odd = {"running": True, "tokens_per_s": "5", "period_ms": math.nan, "favoured_tokens": -1.0}
    assert Pace.of({}) == Pace.of(odd) == Pace()


def test_drain_time_is_backlog_over_rate_within_bounds() -> None:
    assert drain_s(5000, [BUSY, BUSY]) == 5.0
    assert drain_s(1, [BUSY]) == 0.1
    assert drain_s(10**9, [BUSY]) == 60.0
    assert drain_s(10**9, [Pace()]) == drain_s(0, []) == 1.0


def test_expected_output_follows_what_was_seen_and_the_limit() -> None:
    typical = TypicalOutput()
    assert typical.expected(1000) == FIRST_GUESS
    for _ in range(300):
        typical.observe(20)
    assert typical.expected(1000) == 20
    assert typical.expected(7) == 7
