"""What a token is worth (services/selector/pricing.py)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from services.selector.pricing import best_first, buy, schedule_weights, widest_level, worthwhile_depth

VALUES = arrays(np.float64, st.integers(0, 30), elements=st.floats(0.001, 1.0))


@st.composite
def markets(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rows and values of nodes, weights of rows, and convex rising periods."""
    values = draw(VALUES)
    num_rows = draw(st.integers(1, 5))
    rows = draw(arrays(np.int64, len(values), elements=st.integers(0, num_rows - 1)))
    slopes = np.sort(draw(arrays(np.float64, len(values), elements=st.floats(0.0, 2.0))))
    periods = draw(st.floats(1.0, 50.0)) + np.concatenate(([0.0], np.cumsum(slopes)))
    return rows, values, np.ones(num_rows), periods


@given(markets())
def test_no_other_number_of_nodes_earns_more_per_ms(market: tuple[np.ndarray, ...]) -> None:
    rows, values, weights, periods = market
    order = np.argsort(-values, kind="stable")
    bought = buy(rows, values, order, weights, periods)
    sums = np.concatenate(([0.0], np.cumsum(values[order])))
    rates = [(weights.sum() + gain) / period for gain, period in zip(sums, periods, strict=True)]
    assert bought.rate == max(rates)
    assert bought.taken.sum() == int(np.argmax(rates))


@given(markets())
def test_every_bought_node_pays_its_own_time_and_no_other_would(market: tuple[np.ndarray, ...]) -> None:
    """The stopping rule of the greedy pass, w·f ≥ R·dT/dB, is what the best ratio means."""
    rows, values, weights, periods = market
    order = np.argsort(-values, kind="stable")
    bought = buy(rows, values, order, weights, periods)
    num = int(bought.taken.sum())
    ordered, costs = values[order], np.diff(periods) * bought.rate
    assert np.all(np.cumsum((ordered - costs)[:num][::-1]) >= -1e-9)
    assert np.all(np.cumsum((ordered - costs)[num:]) <= 1e-9)


def test_what_a_bucket_leaves_free_is_filled() -> None:
    values = np.array([0.9, 0.3, 0.1, 0.1])
    periods = np.array([10.0, 12.0, 12.0, 12.0, 30.0])
    assert buy(np.zeros(4, np.int64), values, np.arange(4), np.ones(1), periods).taken.tolist() == [3]


def test_nothing_is_bought_where_nothing_pays() -> None:
    bought = buy(
        np.zeros(2, np.int64), np.array([0.1, 0.1]), np.arange(2), np.ones(1), np.array([10.0, 20.0, 30.0])
    )
    assert (bought.taken.tolist(), bought.price) == ([0], 0.0)


def test_a_fixed_number_of_nodes_is_bought_whatever_it_costs() -> None:
    periods = np.array([1.0, 100.0, 1000.0])
    bought = buy(np.zeros(2, np.int64), np.array([0.2, 0.1]), np.arange(2), np.ones(1), periods, least=2)
    assert bought.taken.tolist() == [2]
    assert bought.price == pytest.approx((1 + 0.3) / 1000.0 * 900.0)  # what the last one cost


@given(VALUES)
def test_best_first_is_a_stable_descending_sort(values: np.ndarray) -> None:
    rounded = values.astype(np.float32)
    assert best_first(values).tolist() == np.argsort(-rounded, kind="stable").tolist()


@given(st.floats(0.01, 1.0), st.floats(0.1, 100.0), st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=9))
def test_weights_rise_with_what_is_owed_and_stop_at_one(floor: float, horizon: float, owed: list[float]) -> None:
    ordered = np.sort(np.array([*owed, -np.inf]))
    weights = schedule_weights(ordered, floor=floor, horizon=horizon)
    assert weights[0] == floor
    assert np.all(np.diff(weights) >= 0)
    assert np.all(weights[ordered >= 0] == 1.0)


def depth(gains: list[list[float]], *, price: float = 0.0, level_cost: float, roots: float = 10.0) -> int:
    values = np.array([value for level in gains for value in level])
    depths = np.repeat(np.arange(1, len(gains) + 1), [len(level) for level in gains])
    return worthwhile_depth(
        values, depths, price=price, level_cost=level_cost, roots=roots, drafted=len(gains), max_depth=8
    )


def test_levels_that_do_not_pay_their_time_are_not_drafted_again() -> None:
    gains = [[0.9, 0.9], [0.8, 0.7], [0.2], []]
    assert depth(gains, level_cost=0.5) == 2
    assert depth(gains, level_cost=0.1) == 3
    assert depth(gains, level_cost=5.0) == 0


def test_a_price_is_taken_off_each_node() -> None:
    assert depth([[0.9, 0.9], [0.4, 0.4]], price=0.3, level_cost=0.5) == 1


def test_one_more_level_is_tried_when_all_pay_and_the_trend_says_it_would() -> None:
    assert depth([[0.9] * 10, [0.8] * 10], level_cost=1.0) == 3
    assert depth([[0.9] * 10, [0.1] * 10], level_cost=0.9) == 2


def test_the_last_level_is_the_limit() -> None:
    assert depth([[0.9] * 10] * 8, level_cost=0.1) == 8


def test_widest_level_counts_nodes_of_one_row_and_level() -> None:
    offsets = np.array([0, 3, 3, 7])
    depths = np.array([1, 2, 2, 1, 1, 1, 2])
    assert widest_level(offsets, depths) == 3
    assert widest_level(np.array([0, 0]), np.empty(0, np.int64)) == 0
