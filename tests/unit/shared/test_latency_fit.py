"""Fitting a latency model to measured passes (shared/latency_fit.py)."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.latency import LatencyModel
from shared.latency_fit import Sample, fit

SHAPES = [
    (tokens, context * min(rows, tokens), min(rows, tokens))
    for tokens in (1, 4, 16, 64, 256)
    for rows, context in ((1, 128), (16, 128), (16, 512), (64, 64))
]
seeds = st.integers(0, 2**32).map(random.Random)  # hypothesis' own randomness would look for the unlikeliest noise


def measured(model: LatencyModel, chance: random.Random, noise: float, stalls: float) -> list[Sample]:
    """Every shape once; noise only adds time, and a stall makes a pass four times as long."""
    return [
        Sample(*shape, ms * (1 + noise * chance.random()) * (4 if chance.random() < stalls else 1))
        for shape in SHAPES
        for ms in [model.predict_ms(shape[0], context_tokens=shape[1], rows=shape[2])]
    ]


@st.composite
def models(draw: st.DrawFn) -> LatencyModel:
    start, per_token = draw(st.floats(0.5, 50.0)), draw(st.floats(0.01, 1.0))
    return LatencyModel(
        tokens=(1, 256),
        ms=(start, start + 255 * per_token),
        context_ms=draw(st.floats(0.0, 1.0)) * start,
        row_ms=draw(st.floats(0.0, 0.1)) * start,
    )


@given(models())
def test_exact_samples_give_the_model_back(model: LatencyModel) -> None:
    found = fit(measured(model, random.Random(0), noise=0.0, stalls=0.0))
    for tokens, context, rows in SHAPES:
        expected = model.predict_ms(tokens, context_tokens=context, rows=rows)
        assert found.predict_ms(tokens, context_tokens=context, rows=rows) == pytest.approx(expected, rel=0.01)


@given(models(), seeds)
def test_stalls_and_noise_leave_most_predictions_close(model: LatencyModel, chance: random.Random) -> None:
    found = fit(measured(model, chance, noise=0.1, stalls=0.08))
    errors = []
    for tokens, context, rows in SHAPES:
        expected = 1.05 * model.predict_ms(tokens, context_tokens=context, rows=rows)
        errors.append(abs(found.predict_ms(tokens, context_tokens=context, rows=rows) - expected) / expected)
    assert sorted(errors)[len(errors) // 2] <= 0.1


positive = st.floats(1e-3, 1e4)


@given(st.lists(st.builds(Sample, st.integers(1, 300), st.integers(0, 10**6), st.integers(0, 64), positive)))
def test_any_samples_give_a_valid_model(samples: list[Sample]) -> None:
    model = fit([Sample(1, 0, 1, 1.0), Sample(2, 0, 1, 1.0), *samples], buckets=(8, 64))
    assert model.tokens[0] == 1
    assert model.buckets == (8, 64)


def test_what_was_not_varied_costs_nothing_and_belongs_to_the_curve() -> None:
    model = fit([Sample(n, 512, 4, 10.0 + n) for n in (1, 8, 64)])
    assert (model.context_ms, model.row_ms) == (0.0, 0.0)
    assert model.ms == (11.0, 18.0, 74.0)


def test_a_slope_that_seems_negative_is_zero() -> None:
    samples = [Sample(n, 128 * rows, rows, 10.0 - 0.1 * rows) for n in (16, 32) for rows in (1, 4, 16)]
    model = fit([*samples, Sample(1, 128, 1, 5.0)])
    assert (model.context_ms, model.row_ms) == (0.0, 0.0)
