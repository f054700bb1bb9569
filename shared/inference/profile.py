"""How long forward passes take: the start-up sweep that T(n, S, rows) is fitted to."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from shared.inference.kv import BlockPool, SequenceSlots
from shared.inference.plan import ForwardPlan, build_plan, chain_row
from shared.inference.runner import ModelRunner
from shared.latency_fit import Sample

TOKENS = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512)
CONTEXT, ROWS = 128, 16
# Few further shapes (rows, context, token counts) tell what rows and context cost; the sweep has to stay short.
SHAPES = (
    (1, CONTEXT, (1, 4, 16, 64)),
    (4, CONTEXT, (4, 32)),
    (64, CONTEXT, (64, 128)),
    (ROWS, 4 * CONTEXT, (16, 64)),
    (1, 8 * CONTEXT, (1, 16, 64)),
)
_WARM_UPS = 1  # the first pass of a shape allocates and picks kernels


def sweep(runner: ModelRunner, pool: BlockPool, context_limit: int, *, clock: Callable[[], float]) -> list[Sample]:
    """Samples of T(n, S, rows): over many short contexts, over one where the pool is too small for that."""
    context = min(CONTEXT, context_limit // 2)
    for rows in (ROWS, 1):
        samples = measure_latency(runner, pool, TOKENS, context=context, clock=clock, rows=rows)
        if len(samples) >= len(TOKENS) // 2:
            break
    for rows, context, counts in SHAPES:
        samples += measure_latency(runner, pool, counts, context=context, clock=clock, rows=rows)
    return samples


def measure_latency(
    runner: ModelRunner,
    pool: BlockPool,
    token_counts: Sequence[int],
    *,
    context: int,
    clock: Callable[[], float],
    repeats: int = 3,
    rows: int = 1,
) -> list[Sample]:
    """Median milliseconds of a forward pass that feeds each number of tokens, all with logits.

    Each of `rows` sequences, fewer when there are fewer tokens, has `context` committed tokens and takes an
    even share. `clock` returns seconds. Counts whose sequences do not fit into the free blocks or the context
    limit are left out. Blocks are borrowed from `pool` and given back; what KV they held is overwritten.
    """
    results = []
    for count in token_counts:
        sequences = [SequenceSlots(pool) for _ in range(min(rows, count))]
        shares = [len(share) for share in np.array_split(np.arange(count), len(sequences))]
        needed = sum(pool.blocks_for(context + share) for share in shares)
        if needed > pool.num_free or context + max(shares) > runner.context_limit:
            continue
        try:
            for sequence, share in zip(sequences, shares, strict=True):
                sequence.reserve(context + share)
            plan = _plan(sequences, shares, context)
            ms = _median_ms(runner, plan, clock, repeats)
            results.append(Sample(count, context * len(sequences), len(sequences), ms))
        finally:
            for sequence in sequences:
                sequence.free()
    return results


def _plan(sequences: Sequence[SequenceSlots], shares: Sequence[int], context: int) -> ForwardPlan:
    rows = []
    for sequence, share in zip(sequences, shares, strict=True):
        row = chain_row(
            sequence.slots(0, context),
            np.zeros(share, dtype=np.int32),
            sequence.slots(context, context + share),
            last_logits=False,
        )
        rows.append(replace(row, logits=np.arange(share)))
    return build_plan(rows)


def _median_ms(runner: ModelRunner, plan: ForwardPlan, clock: Callable[[], float], repeats: int) -> float:
    times = []
    for _ in range(_WARM_UPS + repeats):
        start = clock()
        runner.logits(plan)  # ends with a copy to the host, so it waits for the device
        times.append((clock() - start) * 1e3)
    return statistics.median(times[_WARM_UPS:])
