"""SLO arithmetic (shared/slo.py)."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.slo import attained, tokens_needed, tpot_ms

durations = st.floats(0.0, 1e6)
targets = st.floats(0.5, 1e4)


@given(elapsed=durations, t_spec=durations, target=targets, committed=st.integers(1, 10_000))
def test_emitting_the_needed_tokens_puts_the_request_exactly_on_target(
    elapsed: float, t_spec: float, target: float, committed: int
) -> None:
    needed = float(tokens_needed(elapsed, t_spec, target, committed))
    after = tpot_ms(0.0, elapsed + t_spec, committed + math.ceil(needed))
    if committed + math.ceil(needed) > 1:
        assert after <= target * (1 + 1e-9)
    if needed > 0.0:
        assert (elapsed + t_spec) / target == pytest.approx(committed - 1 + needed)


@given(elapsed=durations, t_spec=durations, target=targets, committed=st.integers(0, 10_000))
def test_need_is_never_negative_and_grows_with_time(
    elapsed: float, t_spec: float, target: float, committed: int
) -> None:
    now, later = tokens_needed([elapsed, elapsed + 1.0], t_spec, target, committed)
    assert 0.0 <= now <= later


def test_best_effort_needs_nothing() -> None:
    assert tokens_needed(1e6, 50.0, math.inf, 1) == 0.0


@pytest.mark.parametrize("target", [0.0, -5.0, math.nan])
def test_target_that_no_request_can_have_counts_as_best_effort(target: float) -> None:
    assert tokens_needed(1e6, 50.0, target, 1) == 0.0


@pytest.mark.parametrize(("elapsed", "expected"), [(math.inf, math.inf), (-math.inf, 0.0), (math.nan, 0.0)])
def test_any_elapsed_time_gives_a_number(elapsed: float, expected: float) -> None:
    assert tokens_needed(elapsed, 50.0, 10.0, 1) == expected


def test_rows_broadcast() -> None:
    needed = tokens_needed(np.array([100.0, 100.0, 0.0]), 20.0, np.array([10.0, 40.0, 40.0]), np.array([5, 5, 1]))
    np.testing.assert_allclose(needed, [8.0, 0.0, 0.5])


def test_tpot_does_not_count_the_first_token() -> None:
    assert tpot_ms(1000.0, 1090.0, 10) == 10.0


@pytest.mark.parametrize("tokens", [0, 1])
def test_tpot_without_a_gap_is_zero(tokens: int) -> None:
    assert tpot_ms(1000.0, 1090.0, tokens) == 0.0


def test_tpot_survives_a_clock_that_went_back() -> None:
    assert tpot_ms(1000.0, 999.0, 5) == 0.0


@pytest.mark.parametrize(
    ("tpot", "ttft", "ttft_target", "expected"),
    [
        (40.0, 500.0, math.inf, True),
        (40.1, 500.0, math.inf, False),
        (40.0, 800.0, 800.0, True),
        (40.0, 801.0, 800.0, False),
    ],
)
def test_attained_needs_both_targets_met(tpot: float, ttft: float, ttft_target: float, *, expected: bool) -> None:
    assert attained(tpot=tpot, tpot_target=40.0, ttft=ttft, ttft_target=ttft_target) is expected
