from __future__ import annotations

import itertools

import pytest

from shared.inference.kv import BlockPool
from shared.inference.profile import measure_latency, sweep
from tests.unit.shared.inference.tiny_models import new_runner


class SteppingClock:
    """Every pass takes the next of the given durations."""

    def __init__(self, durations_ms: list[float]) -> None:
        ends = list(itertools.accumulate(durations_ms))
        self._readings = iter(x / 1e3 for pair in zip([0.0, *ends], ends, strict=False) for x in pair)

    def __call__(self) -> float:
        return next(self._readings)


def test_the_median_is_taken_after_a_warm_up() -> None:
    clock = SteppingClock([900.0, 5.0, 7.0, 50.0, 800.0, 9.0, 8.0, 10.0])
    pool = BlockPool(32)
    result = measure_latency(new_runner(), pool, [1, 8], context=16, clock=clock)
    assert [sample.tokens for sample in result] == [1, 8]
    assert [sample.ms for sample in result] == pytest.approx([7.0, 9.0])
    assert pool.num_free == 32


@pytest.mark.parametrize(("rows", "fitting"), [(1, [1, 2, 8, 20]), (3, [1, 2, 8])])
def test_counts_that_do_not_fit_are_left_out(rows: int, fitting: list[int]) -> None:
    pool = BlockPool(8, block_size=4)
    clock = itertools.count(0.0, 1e-3).__next__
    counts = [1, 2, 8, 20, 33, 100]
    result = measure_latency(new_runner(), pool, counts, context=4, clock=clock, rows=rows)
    assert [sample.tokens for sample in result] == fitting
    assert pool.num_free == 8


def test_counts_beyond_the_context_limit_are_left_out() -> None:
    clock = itertools.count(0.0, 1e-3).__next__
    result = measure_latency(new_runner(), BlockPool(32), [1, 7], context=250, clock=clock)
    assert [sample.tokens for sample in result] == [1]


def test_the_sweep_varies_rows_and_context_and_gives_all_blocks_back() -> None:
    pool = BlockPool(600)
    samples = sweep(new_runner(num_slots=600 * 16), pool, 256, clock=itertools.count(0.0, 1e-3).__next__)
    assert {sample.rows for sample in samples} >= {1, 4, 16, 64}
    assert pool.num_free == 600


def test_the_sweep_makes_do_with_a_small_pool() -> None:
    samples = sweep(new_runner(), BlockPool(8, block_size=4), 32, clock=itertools.count(0.0, 1e-3).__next__)
    assert {sample.rows for sample in samples} == {1}
    assert len(samples) >= 2
