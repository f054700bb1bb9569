"""The figures of the latency benchmark, on steps whose right figures are known."""

from __future__ import annotations

import random

import pytest

from bench.latency_error import GOAL, WINDOW, phase, steps_until_close
from bench.recorded_verifier import Step


def step(number: int, ms: float, *, refit_ms: float, tokens: int = 8) -> Step:
    return Step(float(number), tokens, 100, 4, ms, profile_ms=10.0, refit_ms=refit_ms)


def test_recovery_is_counted_in_steps_to_the_end_of_the_first_good_window() -> None:
    off = [step(number, 20.0, refit_ms=10.0) for number in range(30)]
    right = [step(number, 20.0, refit_ms=20.0) for number in range(30)]
    assert steps_until_close(right, GOAL) == WINDOW
    assert steps_until_close(off + right, GOAL) == len(off) + WINDOW // 2 + 1  # more right ones than wrong ones
    assert steps_until_close(off, GOAL) is None
    assert steps_until_close(off, 0.5) == WINDOW


@pytest.mark.parametrize(("noise", "least", "most"), [(0.0, 0.0, 0.001), (0.3, 0.1, 0.2)])
def test_hindsight_leaves_what_the_operation_does_not_explain(noise: float, least: float, most: float) -> None:
    chance = random.Random(1)
    steps = [
        step(number, (2.0 + tokens) * (1 + chance.uniform(-noise, noise)), refit_ms=1.0, tokens=tokens)
        for number in range(200)
        for tokens in (1, 8, 64)
    ]
    assert least <= phase("busy", steps).hindsight_error <= most
