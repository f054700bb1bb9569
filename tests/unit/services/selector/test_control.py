"""Adaptive control and the prediction of an iteration (services/selector/control.py)."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.selector.control import PolicySettings, next_depth, next_width, predict_period_ms, token_budget
from shared.latency import LatencyModel

SETTINGS = PolicySettings()
TABLE = LatencyModel(tokens=(1, 101), ms=(10.0, 110.0))
times = st.floats(0.0, math.inf)


@pytest.mark.parametrize(
    ("num_rows", "budget", "c1", "depth"),
    [(1, 512, 0, 8), (64, 512, 0, 7), (128, 512, 0, 3), (128, 512, 42, 2), (600, 512, 0, 1), (0, 512, 0, 8)],
)
def test_depth_follows_equation_8(num_rows: int, budget: int, c1: int, depth: int) -> None:
    assert next_depth(num_rows, budget, PolicySettings(depth_offset=c1)) == depth


@pytest.mark.parametrize(
    ("num_rows", "c2", "width"), [(1, 0, 3), (32, 0, 3), (33, 0, 2), (97, 0, 1), (97, 1, 1), (96, 1, 2), (0, 0, 3)]
)
def test_width_follows_equation_9(num_rows: int, c2: int, width: int) -> None:
    assert next_width(num_rows, PolicySettings(width_offset=c2)) == width


@given(st.integers(0, 5000), st.integers(1, 70_000), st.integers(1, 8), st.integers(8, 64))
def test_depth_and_width_stay_within_their_limits_and_shrink_with_load(
    num_rows: int, budget: int, low: int, high: int
) -> None:
    settings = PolicySettings(min_depth=low, max_depth=high, max_width=5)
    assert low <= next_depth(num_rows + 1, budget, settings) <= next_depth(num_rows, budget, settings) <= high
    assert 1 <= next_width(num_rows + 1, settings) <= next_width(num_rows, settings) <= 5


def test_budget_comes_from_the_table_unless_set() -> None:
    assert token_budget(TABLE, SETTINGS) == 16
    assert token_budget(TABLE, PolicySettings(budget_ratio=5.0)) == 41
    assert token_budget(TABLE, PolicySettings(budget=512)) == 512


def test_period_is_drafting_plus_verification_plus_overhead() -> None:
    model = replace(TABLE, context_ms=3.0, row_ms=0.5)
    predicted = predict_period_ms(model, 11, context_tokens=2000, rows=4, draft_ms=5.0, overhead_ms=2.0)
    assert predicted == pytest.approx(5.0 + (20.0 + 2 * 3.0 + 4 * 0.5) + 2.0)


@given(st.integers(0, 2**31), st.integers(0, 2**43), times, times)
def test_period_is_finite_whatever_a_hint_claims(
    num_tokens: int, context_tokens: int, draft_ms: float, overhead_ms: float
) -> None:
    model = replace(TABLE, context_ms=3.0, row_ms=0.5)
    predicted = predict_period_ms(
        model, num_tokens, context_tokens=context_tokens, rows=4, draft_ms=draft_ms, overhead_ms=overhead_ms
    )
    assert 10.0 <= predicted < math.inf
