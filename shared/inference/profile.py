"""How long forward passes take: the sweep that T(n, S, rows) is fitted to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from shared.inference.kv import BlockPool, SequenceSlots
from shared.inference.plan import ForwardPlan, build_plan, chain_row
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
_ROUNDS = 3

Forward = Callable[[ForwardPlan], object]


def sweep(forward: Forward, pool: BlockPool, *, context_limit: int, clock: Callable[[], float]) -> list[Sample]:
    """Samples of T(n, S, rows), all tokens with logits: over many short contexts, and a few other shapes.

    Where the pool is too small for many contexts, over one. `forward` runs a plan and waits until its outcome is
    on the host, `clock` returns seconds. What KV the pool's free blocks held is overwritten.
    """
    context = min(CONTEXT, context_limit // 2)
    for rows in (ROWS, 1):
        plans = chain_plans(pool, TOKENS, rows=rows, context=context, context_limit=context_limit)
        if len(plans) >= len(TOKENS) // 2:
            break
    for rows, context, counts in SHAPES:
        plans += chain_plans(pool, counts, rows=rows, context=context, context_limit=context_limit)
    return measure(forward, plans, clock)


def measure(forward: Forward, plans: Sequence[ForwardPlan], clock: Callable[[], float]) -> list[Sample]:
    """The best of a few passes of each plan, in ms: noise only ever adds time.

    The passes of one plan are a round of all plans apart, because a busy neighbour may stay for a second.
    """
    best = np.full(len(plans), np.inf)
    for round_number in range(_WARM_UPS + _ROUNDS):
        for index, plan in enumerate(plans):
            start = clock()
            forward(plan)
            took_ms = (clock() - start) * 1e3
            if round_number >= _WARM_UPS:
                best[index] = min(best[index], took_ms)
    return [
        Sample(plan.num_tokens, len(plan.context_slots), plan.num_rows, ms)
        for plan, ms in zip(plans, best.tolist(), strict=True)
    ]


def chain_plans(
    pool: BlockPool, token_counts: Sequence[int], *, rows: int, context: int, context_limit: int
) -> list[ForwardPlan]:
    """A plan for each number of tokens, in even shares of `rows` sequences, fewer when there are fewer tokens.

    Each sequence has `context` committed tokens. Counts whose sequences do not fit into the free blocks or the
    context limit are left out. The plans use slots that are free: they may run while nobody else uses the pool.
    """
    plans = []
    for count in token_counts:
        shares = [len(share) for share in np.array_split(np.arange(count), min(rows, count))]
        needed = sum(pool.blocks_for(context + share) for share in shares)
        if needed <= pool.num_free and context + max(shares) <= context_limit:
            plans.append(_plan(pool, shares, context))
    return plans


def _plan(pool: BlockPool, shares: Sequence[int], context: int) -> ForwardPlan:
    sequences = [SequenceSlots(pool) for _ in shares]
    rows = []
    for sequence, share in zip(sequences, shares, strict=True):
        sequence.reserve(context + share)
        tokens = np.zeros(share, dtype=np.int32)
        slots = sequence.slots(context, context + share)
        row = chain_row(sequence.slots(0, context), tokens, slots, last_logits=False)
        rows.append(replace(row, logits=np.arange(share)))
    for sequence in sequences:
        sequence.free()
    return build_plan(rows)
