"""What one more level of candidate trees costs a draft model, by rows and width."""

from __future__ import annotations

from dataclasses import dataclass

from bench.draft_requests import draft_request
from services.drafter.drafter import Drafter
from shared.inference.blocks import BlockPool
from shared.inference.runner import ModelRunner

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
    message = draft_request(
        [[0] * context] * rows, known=[0] * rows, committed=[0] * rows, depth=DEPTH, width=width
    )
    for _ in range(ROUNDS):
        drafted = drafter.draft(message)
    drafter.keep(set())
    has_room = bool((drafted.acknowledged >= 0).all())
    return Level(rows, width, drafted.level_ms) if has_room else None
