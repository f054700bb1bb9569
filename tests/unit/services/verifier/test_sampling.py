"""Drawing tokens: exact noise, filters against the reference, the right distribution."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.reference import Sampling, keep_mask, perturbed
from services.verifier.sampling import Draw, SamplingParams, draw_token, filtered
from tests.effort import examples

SEEDS = st.integers(0, 2**64 - 1)


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, SamplingParams, Sampling]:
    size = draw(st.integers(1, 30))
    logits = np.array(draw(st.lists(st.floats(-60, 60, width=32), min_size=size, max_size=size)))
    values = {
        "temperature": draw(st.sampled_from([0.0, 0.1, 0.7, 1.0, 3.0])),
        "top_k": draw(st.sampled_from([0, 1, 2, 5, 100])),
        "top_p": draw(st.sampled_from([0.0, 0.3, 0.9, 1.0])),
        "min_p": draw(st.sampled_from([0.0, 0.05, 1.0])),
        "seed": draw(SEEDS),
    }
    return logits, SamplingParams(**values), Sampling(**values)


@given(case=cases(), position=st.integers(0, 1000))
@settings(max_examples=examples(500))
def test_draws_equal_the_reference(case: tuple[np.ndarray, SamplingParams, Sampling], position: int) -> None:
    logits, params, sampling = case
    assert draw_token(logits, Draw(params, position)) == int(np.argmax(perturbed(logits, sampling, position)))


@given(case=cases())
@settings(max_examples=examples(500))
def test_filters_keep_what_the_reference_keeps(case: tuple[np.ndarray, SamplingParams, Sampling]) -> None:
    logits, params, sampling = case
    if params.temperature == 0.0:
        return
    ids, _ = filtered(logits.copy(), params)
    scores = logits / params.temperature
    drawable = scores >= scores.max() - 41.0
    assert ids.tolist() == np.flatnonzero(keep_mask(scores, sampling) & drawable).tolist()


@given(
    temperature=st.floats(min_value=0.0, exclude_min=True, max_value=100.0),
    top_p=st.floats(0.0, 1.0),
    min_p=st.floats(0.0, 1.0),
    position=st.integers(0, 1000),
)
def test_any_temperature_draws_and_tiny_ones_draw_the_best(
    temperature: float, top_p: float, min_p: float, position: int
) -> None:
    logits = np.array([1.0, 5.0, 20.0, -3.0])
    params = SamplingParams(temperature=temperature, top_p=top_p, min_p=min_p, seed=9)
    token = draw_token(logits, Draw(params, position))
    assert token == 2 or temperature > 0.1


def test_a_ban_of_everything_bans_nothing() -> None:
    draw = Draw(SamplingParams(temperature=0.5, top_p=0.5), 0, frozenset({0, 1}))
    assert draw_token(np.array([3.0, 1.0]), draw) == 0


def test_banned_ids_are_never_drawn() -> None:
    logits = np.array([9.0, 1.0, 0.0])
    draws = [Draw(SamplingParams(temperature=t, seed=3), 5, frozenset({0, 77})) for t in (0.0, 0.5)]
    assert 0 not in [draw_token(logits, draw) for draw in draws]


def test_draws_follow_the_distribution() -> None:
    """Pearson's chi-squared over 20,000 positions against the processed distribution."""
    logits = np.array([2.0, 1.0, 0.5, 0.0, -1.0])
    params = SamplingParams(temperature=0.8, top_k=4, seed=12)
    count = 20_000
    drawn = Counter(draw_token(logits, Draw(params, position)) for position in range(count))
    expected = np.where(logits >= 0.0, np.exp(logits / 0.8), 0.0)
    expected = expected / expected.sum() * count
    statistic = sum((drawn[i] - expected[i]) ** 2 / expected[i] for i in range(4))
    assert drawn[4] == 0
    assert statistic < 16.27  # 99.9 % of chi-squared with 3 degrees of freedom
