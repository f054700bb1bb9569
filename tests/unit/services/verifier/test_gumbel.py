"""Keyed noise, and the winner with it: the same id as by the noise of all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.reference import gumbel
from services.verifier import gumbel as module
from services.verifier.gumbel import LOUD, MOST_NOISE, NOISE_SPAN, gumbel_noise, loud, winner
from tests.effort import examples

SEEDS = st.integers(0, 2**64 - 1)
GOLDEN = [1.283805593520359, 2.49945014449888, 1.329082747160705]


@given(seed=SEEDS, position=st.integers(0, 2**20))
def test_noise_is_the_protocols(seed: int, position: int) -> None:
    ids = np.arange(50)
    np.testing.assert_allclose(gumbel_noise(seed, position, ids), gumbel(seed, position, 50), rtol=0, atol=1e-12)


def test_noise_of_known_inputs() -> None:
    """Golden: a change here changes the tokens of every seeded request."""
    assert gumbel_noise(7, 11, np.array([0, 1, 4095])).tolist() == pytest.approx(GOLDEN, abs=1e-13)


def test_no_noise_goes_beyond_its_span() -> None:
    ends = -np.log(-np.log((np.array([0.0, 2.0**52 - 1]) + 0.5) * 2.0**-52))
    assert ends[0] > -4.0
    assert ends[1] < MOST_NOISE
    assert ends[1] - ends[0] < NOISE_SPAN


def plainly(logits: np.ndarray, temperature: float, seed: int, position: int) -> int:
    """By the noise of every id."""
    with np.errstate(over="ignore"):
        scores = (logits.astype(np.float64) - float(logits.max())) / temperature
    return int(np.argmax(scores + gumbel_noise(seed, position, np.arange(len(logits)))))


@given(
    seed=SEEDS,
    position=st.integers(0, 2**20),
    size=st.sampled_from([1, 2, 100, 4096, 40_000]),
    spread=st.sampled_from([0.0, 0.5, 3.0, 30.0]),
    peak=st.sampled_from([0.0, 10.0, 35.0, 60.0]),
    temperature=st.sampled_from([1e-300, 1e-3, 0.3, 1.0, 2.5, 100.0]),
    dtype=st.sampled_from([np.float32, np.float64]),
    forbidden=st.sampled_from([0.0, 0.5, 0.99]),
)
@settings(max_examples=examples(300), deadline=None)
def test_the_winner_is_the_one_by_the_noise_of_all(
    seed: int,
    position: int,
    size: int,
    spread: float,
    peak: float,
    temperature: float,
    dtype: type,
    forbidden: float,
) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0.0, spread, size).astype(dtype)
    logits[rng.random(size) < forbidden] = -np.inf
    logits[rng.integers(size)] = peak
    found = plainly(logits, temperature, seed, position)
    assert winner(logits, temperature, seed, position) == found
    assert winner(logits, temperature, seed, position, loud(seed, position, size)) == found


@given(seed=SEEDS, position=st.integers(0, 2**20), size=st.sampled_from([1, 2, 4096, 40_000]))
@settings(max_examples=examples(50), deadline=None)
def test_the_loud_ones_are_all_whose_noise_is_large(seed: int, position: int, size: int) -> None:
    noise = gumbel_noise(seed, position, np.arange(size))
    known = loud(seed, position, size)
    assert set(np.flatnonzero(noise >= LOUD)) <= set(known.ids)
    np.testing.assert_array_equal(known.noise, noise[known.ids])
    assert known.most >= noise.max()
    assert len(known.ids) < 2 * size * np.exp(-LOUD) + 50


@pytest.mark.parametrize("temperature", [1e-5, 0.7, 3.0])
@pytest.mark.parametrize("away", [-1e-9, -1e-12, 0.0, 1e-12, 1e-9])
@pytest.mark.parametrize("most", [LOUD, np.inf], ids=["quiet", "loudest"])
def test_an_id_just_at_the_reach_of_the_best(temperature: float, away: float, most: float) -> None:
    """The worst cases: whoever has the most noise lacks in logit what that is more than the best one's."""
    for position in range(30):
        noise = gumbel_noise(3, position, np.arange(5000))
        ids = np.flatnonzero(noise < most)
        nearly = ids[noise[ids].argmax()]
        logits = np.full(5000, -100.0 * temperature)
        logits[17] = 0.0
        logits[nearly] = -temperature * (noise[nearly] - noise[17] + away)
        known = loud(3, position, 5000)
        assert winner(logits, temperature, 3, position, known) == plainly(logits, temperature, 3, position)


def test_what_is_known_of_another_vocabulary_is_not_used() -> None:
    logits = np.zeros(4096, np.float32)
    assert winner(logits, 1.0, 3, 4, loud(3, 4, 100)) == plainly(logits, 1.0, 3, 4)


def test_temperatures_at_which_rounding_hides_the_reach() -> None:
    """Then all are looked at, as if nothing were known."""
    for position in range(20):
        logits = np.random.default_rng(position).normal(1e17, 30.0, 3000)
        known = loud(3, position, 3000)
        assert winner(logits, 1e-3, 3, position, known) == plainly(logits, 1e-3, 3, position)


def test_ids_far_below_the_best_win_as_often_as_they_should() -> None:
    """What only the threshold lets in: 8 below the best, yet half of the probability together."""
    logits = np.full(3000, -8.0, np.float32)
    logits[1234] = 0.0
    wins = sum(winner(logits, 1.0, 5, position) != 1234 for position in range(2000))
    share = 2999 * np.exp(-8.0) / (1 + 2999 * np.exp(-8.0))
    assert wins / 2000 == pytest.approx(share, abs=0.045)


def test_of_equal_totals_the_smallest_id_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_noise", lambda key, ids: np.where(ids < 3, 10.0, 0.0))
    monkeypatch.setattr(module, "_noise_of", lambda key, id_: 10.0 if id_ < 3 else 0.0)
    monkeypatch.setattr(module, "_least_hash", lambda noise: 0)
    logits = np.array([-10.0, -10.0, -10.0, 0.0])
    assert winner(logits, 1.0, 1, 1) == winner(logits, 1.0, 1, 1, loud(1, 1, 4)) == 0
