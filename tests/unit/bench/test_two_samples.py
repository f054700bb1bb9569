"""The tests of equal distribution: how often they are wrong, and what they see."""

from __future__ import annotations

import numpy as np
import pytest

from bench.two_samples import of_means, of_tokens, together

DEALS = 199


def sequences(chance: np.random.Generator, size: int, weights: list[float]) -> np.ndarray:
    return chance.choice(len(weights), (size, 3), p=weights).astype(np.int32)


def test_equal_samplers_are_called_different_no_more_often_than_stated() -> None:
    chance, weights = np.random.default_rng(1), [0.6, 0.2, 0.1, 0.06, 0.04]
    found = [
        of_tokens(
            [(sequences(chance, 60, weights), sequences(chance, n, weights)) for n in (90, 40)], chance, DEALS
        )
        for _ in range(200)
    ]
    means = [of_means([(chance.normal(size=60), chance.normal(size=90))], chance, DEALS) for _ in range(200)]
    for p_values in (found, means):
        assert (
            sum(p <= 0.1 for p in p_values) <= 33
        )  # 20 expected, more than 33 once in 650 times; the seed is fixed
        assert 0.4 < np.mean(p_values) < 0.62


def test_another_weight_is_seen() -> None:
    chance = np.random.default_rng(2)
    one, other = (sequences(chance, 800, [weight, 1 - weight]) for weight in (0.5, 0.6))
    assert of_tokens([(one, other)], chance, DEALS) == 1 / (DEALS + 1)


def test_tokens_that_are_right_alone_and_wrong_together_are_seen() -> None:
    chance = np.random.default_rng(3)
    one = sequences(chance, 300, [0.5, 0.5])
    other = np.repeat(sequences(chance, 300, [0.5, 0.5])[:, :1], 3, axis=1)
    assert of_tokens([(one, other)], chance, DEALS) == 1 / (DEALS + 1)


@pytest.mark.parametrize("shift", [-0.5, 0.5])
def test_means_that_differ_either_way_are_seen(shift: float) -> None:
    chance = np.random.default_rng(4)
    one, other = chance.normal(size=200), chance.normal(shift, size=300)
    assert of_means([(one, other)], chance, DEALS) == 1 / (DEALS + 1)


def test_each_prompt_is_compared_with_itself_only() -> None:
    """What differs between prompts is no difference between samplers."""
    chance = np.random.default_rng(6)
    pairs = [
        (chance.normal(place, size=50 * size), chance.normal(place, size=50))
        for place, size in ((0.0, 1), (40.0, 3))
    ]
    assert of_means(pairs, chance, DEALS) > 0.01
    one, other = (np.concatenate(side) for side in zip(*pairs, strict=True))
    assert of_means([(one, other)], chance, DEALS) == 1 / (DEALS + 1)


def test_the_same_samples_on_both_sides_are_equal() -> None:
    chance = np.random.default_rng(5)
    one = sequences(chance, 50, [0.5, 0.3, 0.2])
    assert of_tokens([(one, one)], chance, DEALS) == 1.0


def test_several_tests_share_the_rate() -> None:
    assert together([0.02, 0.5, 0.9]) == pytest.approx(0.06)
    assert together([0.7, 0.9]) == 1.0
