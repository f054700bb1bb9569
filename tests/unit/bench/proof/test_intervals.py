"""Intervals of a report (bench/proof/intervals.py)."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.proof.intervals import (
    Interval,
    Ratio,
    difference,
    interval,
    of_runs_apart,
    of_share,
    of_shares_apart,
)

VALUES = st.lists(st.floats(0, 100), min_size=1, max_size=30)


def ratio(*runs: list[float]) -> Ratio:
    """A mean over requests, run by run."""
    return Ratio([np.array(one) for one in runs], [np.ones(len(one)) for one in runs])


@given(VALUES, VALUES)
def test_an_interval_holds_its_value_and_is_the_same_each_time(left: list[float], right: list[float]) -> None:
    one = interval(ratio(left, right))
    assert one == interval(ratio(left, right))
    assert one.value == pytest.approx(np.mean([*left, *right]))
    assert one.low is not None
    assert one.high is not None
    assert one.low - 1e-9 <= one.high


def test_of_three_runs_the_interval_is_students() -> None:
    one = interval(ratio([1.0, 1.0], [2.0, 2.0], [3.0, 3.0]))
    assert (one.value, one.high) == (2.0, pytest.approx(2 + 4.30265 / math.sqrt(3), rel=1e-4))


def test_of_one_run_the_interval_is_about_that_of_the_normal_distribution() -> None:
    values = list(np.random.default_rng(1).normal(10, 2, 400))
    one = interval(ratio(values))
    assert one.high is not None
    assert one.high - np.mean(values) == pytest.approx(1.96 * 2 / math.sqrt(400), rel=0.15)


def test_what_is_paired_differs_for_certain_where_the_same_is_added_to_each() -> None:
    base = list(np.random.default_rng(2).normal(10, 5, 50))
    one = difference(ratio([value + 1 for value in base]), ratio(base), paired=True)
    assert (one.low, one.high) == (pytest.approx(1), pytest.approx(1))


@pytest.mark.parametrize(("size", "paired"), [(49, True), (50, False)])
def test_what_is_not_the_same_work_is_not_paired(size: int, paired: bool) -> None:
    base = list(np.random.default_rng(2).normal(10, 5, 50))
    one = difference(ratio([value + 1 for value in base]), ratio(base[:size]), paired=paired)
    assert one.high is not None
    assert one.high - 1 > 0.5


# Welch's t of 27.5, 21, 19, 23.6, 17 against 27.1, 22, 20.8, 23.4, 23.4, 23.5: 5.75 degrees of freedom, so 5.
def test_runs_that_are_no_pairs_have_welchs_interval() -> None:
    ours, theirs = [27.5, 21.0, 19.0, 23.6, 17.0], [27.1, 22.0, 20.8, 23.4, 23.4, 23.5]
    one = of_runs_apart([*ours, None], theirs, paired=False)
    error = math.sqrt(np.var(ours, ddof=1) / 5 + np.var(theirs, ddof=1) / 6)
    assert one.value == pytest.approx(np.mean(ours) - np.mean(theirs))
    assert one.high == pytest.approx(one.value + 2.57058 * error)  # type: ignore[operator]
    assert of_runs_apart([1.0, 1.0, 1.0], [2.0, 2.0, 2.0], paired=False) == Interval(-1.0, -1.0, -1.0)
    assert of_runs_apart([1.0, 2.0], [1.0, 2.0, 3.0], paired=False) == Interval(-0.5)
    assert of_runs_apart([None], [1.0], paired=True) == Interval()


def test_where_nothing_differs_about_one_unpaired_comparison_in_twenty_says_otherwise() -> None:
    chance = np.random.default_rng(7)

    def side(requests: int) -> Ratio:
        """Five runs that differ by 20 points, whatever serves them."""
        shares = np.clip(chance.normal(0.5, 0.2, 5), 0, 1)
        return ratio(*(list(100.0 * (chance.random(requests) < share)) for share in shares))

    found = [difference(side(60), side(61), paired=False) for _ in range(600)]
    assert 0.02 <= sum(one.is_above or one.is_below for one in found) / len(found) <= 0.075


def test_a_run_without_such_requests_does_not_count() -> None:
    assert interval(ratio([], [4.0, 4.0])) == Interval(4.0, 4.0, 4.0)
    assert interval(ratio([])) == Interval()
    assert difference(ratio([]), ratio([1.0]), paired=True) == Interval()


# Wilson's and Newcombe's own examples: 81 of 263; 56 of 70 against 48 of 80.
def test_shares_have_the_published_intervals() -> None:
    one = of_share(81, 263)
    assert (one.low, one.high) == (pytest.approx(25.53, abs=0.01), pytest.approx(36.62, abs=0.01))
    apart = of_shares_apart(of_share(56, 70), of_share(48, 80))
    assert (apart.value, apart.low, apart.high) == (
        pytest.approx(20.0),
        pytest.approx(5.24, abs=0.01),
        pytest.approx(33.39, abs=0.01),
    )


def test_a_share_of_none_is_not_certain_to_be_none() -> None:
    one = of_share(0, 20)
    assert (one.value, one.low) == (0.0, pytest.approx(0.0))
    assert one.high == pytest.approx(16.1, abs=0.1)
    assert of_share(0, 0) == Interval()
    assert of_shares_apart(of_share(0, 0), one) == Interval()


def test_signs_turn_and_scales_and_limits_apply_to_both_ends() -> None:
    one = Interval(-2.0, -3.0, -1.0)
    assert one.turned == Interval(2.0, 1.0, 3.0)
    assert one.is_below
    assert one.turned.is_above
    assert one.turned.scaled(2.0) == Interval(4.0, 2.0, 6.0)
    cut = Interval(50.0, -20.0, 120.0).within(0.0, 100.0)
    assert cut == Interval(50.0, 0.0, 100.0)
    assert (cut.is_cut, cut.within(0.0, 100.0).is_cut) == (True, False)
    assert Interval(1.0).within(0.0, 2.0).json() == {"value": 1.0, "low": None, "high": None}
