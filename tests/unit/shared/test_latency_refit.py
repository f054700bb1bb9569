"""The latency model follows the machine (shared/latency_refit.py), in simulated noise."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from statistics import median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.latency import LatencyModel
from shared.latency_refit import Operation, Refit

PROFILE = LatencyModel(tokens=(1, 8, 64, 256), ms=(4.0, 6.0, 14.0, 50.0), context_ms=0.5, row_ms=0.15)
seeds = st.integers(0, 2**32).map(random.Random)  # hypothesis' own randomness would look for the unlikeliest noise
Machine = Callable[[Operation], float]


def cost(
    step: Operation, *, curve: float = 1.0, context: float = 1.0, rows: float = 1.0, more: float = 0.0
) -> float:
    """What the step takes where each part of the profile is so many times as slow."""
    parts = (
        curve * PROFILE.predict_ms(step.tokens),
        context * PROFILE.context_ms * step.context_tokens / 1000,
        rows * PROFILE.row_ms * step.rows,
    )
    return sum(parts) + more


MACHINES: dict[str, Machine] = {
    "everything": lambda step: 1.8 * cost(step),
    "the curve": lambda step: cost(step, curve=1.8),
    "context": lambda step: cost(step, context=6.0),
    "rows": lambda step: cost(step, rows=8.0),
    "every step": lambda step: cost(step, more=10.0),
    "far slower": lambda step: 5.0 * cost(step),
    "faster": lambda step: 0.6 * cost(step),
}


def traffic(chance: random.Random) -> Iterator[Operation]:
    """Steps of a server with mixed load."""
    while True:
        rows = chance.randint(1, 32)
        yield Operation(rows * chance.randint(1, 5), rows * chance.randint(20, 1000), rows)


def errors_of(refit: Refit, machine: Machine, chance: random.Random, num_steps: int) -> list[float]:
    """Relative errors of the predictions made before each step. Noise adds up to a sixth."""
    steps, errors = traffic(chance), []
    for _ in range(num_steps):
        step = next(steps)
        ms = machine(step) * (1.0 + chance.random() / 6)
        predicted = refit.predict_ms(step.tokens, context_tokens=step.context_tokens, rows=step.rows)
        errors.append(abs(predicted - ms) / ms)
        refit.observe(*step, ms)
    return errors


@pytest.mark.parametrize("part", MACHINES)
@given(chance=seeds)
@settings(max_examples=20)
def test_within_fifty_steps_of_a_change_predictions_are_close_again(part: str, chance: random.Random) -> None:
    refit = Refit(PROFILE)
    errors_of(refit, cost, chance, 50)
    errors = errors_of(refit, MACHINES[part], chance, 50)
    assert median(errors[-20:]) <= 0.1


@given(seeds, st.floats(2.0, 1e6))
def test_a_single_stall_moves_no_prediction_by_more_than_five_percent(
    chance: random.Random, slowdown: float
) -> None:
    refit = Refit(PROFILE)
    errors_of(refit, cost, chance, 50)
    step = next(traffic(chance))
    before = refit.predict_ms(step.tokens, context_tokens=step.context_tokens, rows=step.rows)
    refit.observe(*step, before * slowdown)
    after = refit.predict_ms(step.tokens, context_tokens=step.context_tokens, rows=step.rows)
    assert after == pytest.approx(before, rel=0.05)


anything = st.floats(allow_nan=True, allow_infinity=True)
counts = st.integers(0, 1 << 20)


@given(st.lists(st.tuples(counts, st.integers(0, 1 << 62), counts, anything), max_size=40))
def test_whatever_is_observed_the_model_is_valid(steps: list[tuple[int, int, int, float]]) -> None:
    refit = Refit(PROFILE)
    for tokens, context, rows, ms in steps:
        refit.observe(tokens, context, rows, ms)
        model = refit.model  # checks itself
        assert min(model.ms) > 0.0
        assert math.isfinite(refit.predict_ms(tokens, context_tokens=context, rows=rows))


@given(st.lists(st.tuples(st.integers(1, 512), st.integers(0, 10**5), st.integers(1, 64), st.floats(0.1, 1e3))))
def test_the_model_predicts_what_the_refit_predicts(steps: list[tuple[int, int, int, float]]) -> None:
    refit = Refit(PROFILE)
    for step in steps:
        refit.observe(*step)
    for tokens, context, rows, _ in steps:
        predicted = refit.predict_ms(tokens, context_tokens=context, rows=rows)
        assert refit.model.predict_ms(tokens, context_tokens=context, rows=rows) == pytest.approx(predicted)


def test_without_steps_it_is_the_profile() -> None:
    refit = Refit(PROFILE)
    assert refit.model == PROFILE
    assert refit.differs_from(PROFILE) == 0.0


def test_difference_is_that_of_recent_steps() -> None:
    refit = Refit(PROFILE)
    for _ in range(200):
        refit.observe(8, 0, 1, 1.5 * PROFILE.predict_ms(8, rows=1))
    assert refit.differs_from(PROFILE) == pytest.approx(0.5, abs=0.02)
    assert refit.differs_from(refit.model) == pytest.approx(0.0, abs=1e-9)
