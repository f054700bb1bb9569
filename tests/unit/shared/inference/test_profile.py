from __future__ import annotations

import itertools

import pytest

from shared.inference.kv import BlockPool
from shared.inference.profile import chain_plans, measure, sweep
from tests.unit.shared.inference.tiny_models import new_runner


class SteppingClock:
    """Every pass takes the next of the given durations."""

    def __init__(self, durations_ms: list[float]) -> None:
        ends = list(itertools.accumulate(durations_ms))
        self._readings = iter(x / 1e3 for pair in zip([0.0, *ends], ends, strict=False) for x in pair)

    def __call__(self) -> float:
        return next(self._readings)


def test_the_best_of_three_rounds_after_a_warm_up_counts() -> None:
    clock = SteppingClock([2.0, 3.0, 7.0, 50.0, 5.0, 90.0, 60.0, 8.0])
    plans = chain_plans(BlockPool(32), [1, 8], rows=1, context=16, context_limit=256)
    samples = measure(new_runner().logits, plans, clock)
    assert [(sample.tokens, sample.context_tokens, sample.rows) for sample in samples] == [(1, 16, 1), (8, 16, 1)]
    assert [sample.ms for sample in samples] == pytest.approx([5.0, 8.0])


@pytest.mark.parametrize(("rows", "fitting"), [(1, [1, 2, 8, 20]), (3, [1, 2, 8])])
def test_counts_that_do_not_fit_are_left_out(rows: int, fitting: list[int]) -> None:
    pool = BlockPool(8, block_size=4)
    plans = chain_plans(pool, [1, 2, 8, 20, 33, 100], rows=rows, context=4, context_limit=256)
    assert [plan.num_tokens for plan in plans] == fitting
    assert [plan.num_rows for plan in plans] == [min(rows, count) for count in fitting]
    assert pool.num_free == 8


def test_counts_beyond_the_context_limit_are_left_out() -> None:
    plans = chain_plans(BlockPool(32), [1, 7], rows=1, context=250, context_limit=256)
    assert [plan.num_tokens for plan in plans] == [1]


def test_the_sweep_varies_rows_and_context_and_gives_all_blocks_back() -> None:
    pool = BlockPool(600)
    runner = new_runner(num_slots=600 * 16)
    samples = sweep(runner.logits, pool, context_limit=1100, clock=itertools.count(0.0, 1e-3).__next__)
    assert {sample.rows for sample in samples} >= {1, 4, 16, 64}
    assert {sample.context_tokens // sample.rows for sample in samples} == {128, 512, 1024}
    assert pool.num_free == 600


def test_the_sweep_makes_do_with_a_small_pool() -> None:
    pool = BlockPool(8, block_size=4)
    samples = sweep(new_runner().logits, pool, context_limit=32, clock=itertools.count(0.0, 1e-3).__next__)
    assert {sample.rows for sample in samples} == {1}
    assert len(samples) >= 2
