"""What one more level of candidate trees costs a draft model, by rows and width."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from services.drafter.drafter import Drafter
from shared import digest
from shared.inference.blocks import BlockPool
from shared.inference.runner import ModelRunner
from shared.messages import DIGEST, TRACEPARENT, DraftRequest, request_ids

ROWS, WIDTHS = (1, 4, 16, 64), (1, 2, 3, 4)
DEPTH, ROUNDS = 5, 3


@dataclass(frozen=True, slots=True)
class Level:
    """``level_ms`` is the drafter's own figure for trees of this width over so many rows."""

    rows: int
    width: int
    level_ms: float


def measure_levels(runner: ModelRunner, pool: BlockPool, *, context: int) -> list[Level]:
    """Over all ROWS and WIDTHS whose trees have room in the pool."""
    return [
        level
        for rows in ROWS
        for width in WIDTHS
        if (level := _measure(runner, pool, rows, width, context)) is not None
    ]


def _measure(runner: ModelRunner, pool: BlockPool, rows: int, width: int, context: int) -> Level | None:
    limit = rows * max(width, context)
    drafter = Drafter(runner, pool, max_tokens=limit, catch_up=limit, warm_chunk=limit)
    message = _request([0] * context, rows, width)
    for _ in range(ROUNDS):
        drafted = drafter.draft(message)
    drafter.keep(set())
    has_room = bool((drafted.acknowledged >= 0).all())
    return Level(rows, width, drafted.level_ms) if has_room else None


def _request(context: list[int], rows: int, width: int) -> DraftRequest:
    """One request for ``rows`` trees over the same context."""
    return DraftRequest(
        verifier="bench",
        drafter="bench",
        ring=0,
        step=0,
        depth=DEPTH,
        width=width,
        stop_value=0.0,
        prefill_tokens=0,
        prefill_slack_ms=0.0,
        profile="",
        overhead_ms=0.0,
        calibration="",
        request=request_ids([f"{row:032x}" for row in range(rows)]),
        epoch=np.zeros(rows, np.uint64),
        base=np.zeros(rows, np.int32),
        token_offsets=np.arange(rows + 1, dtype=np.int32) * len(context),
        tokens=np.array(context * rows, np.int32),
        digest=np.frombuffer(digest.extend(digest.EMPTY, context) * rows, DIGEST),
        temperature_bucket=np.zeros(rows, np.uint8),
        tpot_ms=np.full(rows, np.inf, np.float32),
        elapsed_ms=np.zeros(rows, np.float32),
        committed=np.zeros(rows, np.int32),
        weight=np.ones(rows, np.float32),
        max_depth=np.full(rows, DEPTH, np.uint8),
        warm=np.zeros(rows, np.bool_),
        schema_offsets=np.zeros(rows + 1, np.int32),
        schema=np.empty(0, np.uint8),
        trace_row=np.empty(0, np.int32),
        traceparent=np.empty(0, TRACEPARENT),
    )
