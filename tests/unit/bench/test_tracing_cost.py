"""When `make tracing` says that its goal is shown."""

from __future__ import annotations

import math
import random

import pytest

from bench.tracing import Overhead, overheads


def logs(*ratios: float) -> list[float]:
    return [math.log(ratio) for ratio in ratios]


def test_five_quiet_pairs_show_nothing() -> None:
    overhead = Overhead.of(logs(1.001, 1.002, 1.003, 1.004, 1.005))
    assert overhead.high == math.inf
    assert not overhead.is_shown


def test_six_have_their_extremes_as_ends() -> None:
    """As in every table of Wilcoxon's test: of six pairs none may have the other sign."""
    overhead = Overhead.of(logs(1.001, 1.002, 1.003, 1.004, 1.005, 1.019))
    assert (overhead.low, overhead.high) == pytest.approx((0.001, 0.019))
    assert overhead.is_shown


def test_twelve_leave_out_as_many_means_as_the_table_says() -> None:
    """Critical value 13 for n = 12, two-sided 5 %: the ends are the 14th of the means from each side."""
    values = [float(2**number) for number in range(12)]
    means = sorted((one + other) / 2 for at, one in enumerate(values) for other in values[: at + 1])
    overhead = Overhead.of([value / 10_000 for value in values])
    assert overhead.low == pytest.approx(math.expm1(means[13] / 10_000))
    assert overhead.high == pytest.approx(math.expm1(means[-14] / 10_000))


def test_a_median_below_the_goal_with_an_interval_around_it_is_not_shown() -> None:
    overhead = Overhead.of(logs(1.026, 1.012, 1.035, 1.023, 0.871, 0.95, 1.06, 1.0))
    assert overhead.value < 0.02 < overhead.high
    assert not overhead.is_shown


def test_one_disturbed_pair_of_many_does_not_decide() -> None:
    quiet = [0.004 + 0.0001 * number for number in range(20)]
    assert Overhead.of([*quiet, 0.5]).is_shown


def test_the_interval_has_the_truth_in_it_nineteen_times_of_twenty() -> None:
    dice = random.Random(3)
    hits = 0
    for _ in range(400):
        overhead = Overhead.of([dice.gauss(0.01, 0.03) for _ in range(12)])
        hits += overhead.low <= math.expm1(0.01) <= overhead.high
    assert 0.92 < hits / 400 < 0.98


def test_what_one_stack_is_slower_cancels_out_within_a_pair() -> None:
    fast, slow = {"gateway": 1.0, "verifier": 3.0}, {"gateway": 2.0, "verifier": 6.0}
    assert overheads([(slow, fast), (fast, slow)]) == pytest.approx([0.0])
