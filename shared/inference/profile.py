"""How long forward passes take: the start-up sweep of T(B) that the verifier publishes."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from shared.inference.kv import BlockPool, SequenceSlots
from shared.inference.plan import ForwardPlan, build_plan, chain_row
from shared.inference.runner import ModelRunner

_WARM_UPS = 1  # the first pass of a shape allocates and picks kernels


def measure_latency(
    runner: ModelRunner,
    pool: BlockPool,
    token_counts: Sequence[int],
    *,
    context: int,
    clock: Callable[[], float],
    repeats: int = 3,
    rows: int = 1,
) -> list[tuple[int, float]]:
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
            results.append((count, _median_ms(runner, plan, clock, repeats)))
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
