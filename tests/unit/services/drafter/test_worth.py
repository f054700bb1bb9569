"""Draft-ahead is on where it pays and off where it does not (services/drafter/worth.py)."""

from __future__ import annotations

import random

import pytest

from services.drafter.worth import BLOCK_ROUNDS, MOST_PAIRS, Worth


def share_on(worth: Worth, num_rounds: int, *, on_ms: float, off_ms: float, saved_s: float = 1.0) -> float:
    """Rounds with draft-ahead, of the last quarter; tokens and times scatter."""
    chance, now, counted = random.Random(3), 0.0, 0
    for index in range(num_rounds):
        worth.heard("v", now, chance.choice((1, 2, 3, 4)))
        counted += worth.is_on and index >= 0.75 * num_rounds
        worth.spent(saved_s=saved_s if worth.is_on else 0.0, cost_s=0.001)
        now += (on_ms if worth.is_on else off_ms) * chance.uniform(0.8, 1.2) / 1000
    return counted / (0.25 * num_rounds)


LONG = BLOCK_ROUNDS * MOST_PAIRS * 8


@pytest.mark.parametrize(("on_ms", "off_ms", "low", "high"), [(16, 20, 0.85, 1.0), (22, 20, 0.0, 0.1)])
def test_auto_finds_what_is_faster(on_ms: float, off_ms: float, low: float, high: float) -> None:
    worth = Worth("auto")
    assert low <= share_on(worth, LONG, on_ms=on_ms, off_ms=off_ms) <= high
    assert worth.pays is (on_ms < off_ms)
    assert worth.gain == pytest.approx(off_ms / on_ms, rel=0.1)


def test_what_saves_less_than_messages_wait_is_switched_off() -> None:
    assert share_on(Worth("auto"), LONG, on_ms=18, off_ms=20, saved_s=0.0) <= 0.1


def test_auto_follows_a_change() -> None:
    worth = Worth("auto")
    share_on(worth, LONG, on_ms=24, off_ms=20)
    assert worth.pays is False
    assert share_on(worth, 10 * LONG, on_ms=14, off_ms=20) >= 0.85


@pytest.mark.parametrize(("mode", "share"), [("on", 1.0), ("off", 0.0)])
def test_orders_are_obeyed(mode: str, share: float) -> None:
    assert share_on(Worth(mode), 200, on_ms=30, off_ms=20) == share  # type: ignore[arg-type]


def test_pauses_prove_nothing() -> None:
    worth = Worth("auto")
    for hour in range(100):
        worth.heard("v", 3600.0 * hour, 5)
    assert (worth.pays, worth.gain) == (None, 1.0)
