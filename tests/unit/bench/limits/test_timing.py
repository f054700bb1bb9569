"""Medians, percentiles, pairs, and rounds that take every side in turn."""

from __future__ import annotations

import gc
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.limits.level import Laps
from bench.limits.memory import growth
from bench.limits.timing import in_rounds, median, paired, percentile, scaled, without_collection


def test_of_nothing_there_is_no_figure() -> None:
    assert math.isnan(median([]))
    assert math.isnan(percentile([], 99))


@given(values=st.lists(st.floats(-1e6, 1e6), min_size=1), percent=st.floats(0.1, 100))
def test_a_percentile_is_the_least_value_that_so_many_do_not_exceed(values: list[float], percent: float) -> None:
    found = percentile(values, percent)
    assert found in values
    assert sum(value <= found for value in values) >= percent / 100 * len(values) - 1e-9
    below = [value for value in values if value < found]
    assert len(below) < percent / 100 * len(values) + 1e-9


def test_the_highest_of_few_is_their_99th_percentile() -> None:
    assert percentile([3.0, 1.0, 2.0], 99) == 3.0
    assert percentile([float(value) for value in range(1, 101)], 99) == 99.0


def test_pairs_are_compared_round_by_round() -> None:
    """The median of ratios: a stall that hits both sides of a round changes nothing."""
    assert paired([2.0, 20.0, 2.0], [1.0, 10.0, 1.0]) == 2.0
    with pytest.raises(ValueError, match="shorter"):
        paired([1.0, 2.0], [1.0])


def test_every_round_takes_each_side_in_turn_without_collection() -> None:
    order: list[str] = []
    enabled: list[bool] = []

    def call(name: str) -> None:
        order.append(name)
        enabled.append(gc.isenabled())

    times = in_rounds({"a": lambda: call("a"), "b": lambda: call("b")}, 3, warm=2)
    assert order == ["a", "b"] * 5
    assert {name: len(spent) for name, spent in times.items()} == {"a": 3, "b": 3}
    assert not any(enabled)
    assert gc.isenabled()


def test_collection_stays_off_where_it_was_off() -> None:
    with without_collection():
        with without_collection():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()


def test_units() -> None:
    assert scaled([0.5, 1.0], 1e3) == [500.0, 1000.0]


def test_laps_are_the_times_between_two_readings() -> None:
    laps = Laps()
    begin, end, later, last = laps(), laps(), laps(), laps()
    assert laps.levels() == [end - begin, last - later]
    assert laps.levels() == []


def test_growth_looks_beyond_the_settling() -> None:
    assert growth([1.0, 5.0, *[10.0] * 8]) == 1.0
    assert growth([10.0] * 6 + [10.0, 12.0, 11.0, 13.0]) == pytest.approx(1.3)
