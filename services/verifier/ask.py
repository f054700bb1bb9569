"""The DraftRequest of one iteration, from the state of the running requests. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from services.verifier.generation import Generation
from shared.fields import MAX_AXIS
from shared.messages import DIGEST, MAX_DEPTH, TRACEPARENT, DraftRequest, request_ids


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """What the selector decided for the next iteration; the defaults hold until it has spoken."""

    depth: int
    width: int
    stop_value: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What a DraftRequest says besides its rows. ``redis_ms`` is Redis' clock now."""

    verifier: str
    drafter: str
    ring: int
    step: int
    profile: str
    overhead_ms: float
    calibration: str
    prefill_tokens: int
    prefill_slack_ms: float
    redis_ms: float
    now_ms: float


def draft_request(
    rows: Sequence[Generation], traces: Sequence[tuple[int, str]], control: Control, about: Circumstances
) -> DraftRequest:
    """One row per running request; those that are not decoding are announced as warm.

    Rows that must not be speculated on, by the client's wish or because the drafter has no room, carry depth 0
    and no tokens, so that they still count in n and B. ``traces``: (row, traceparent) of the sampled ones.
    """
    depths = [_depth_of(row) if may_draft(row, about.now_ms) else 0 for row in rows]
    schemas = _schemas(rows, depths)
    bases = [
        min(row.speculation.acknowledged, row.position) if depth else row.position
        for row, depth in zip(rows, depths, strict=True)
    ]
    tokens = [row.tokens[base:] for row, base in zip(rows, bases, strict=True)]
    return DraftRequest(
        verifier=about.verifier,
        drafter=about.drafter,
        ring=about.ring,
        step=about.step,
        depth=control.depth,
        width=control.width,
        stop_value=control.stop_value,
        prefill_tokens=about.prefill_tokens,
        prefill_slack_ms=about.prefill_slack_ms,
        profile=about.profile,
        overhead_ms=about.overhead_ms,
        calibration=about.calibration,
        request=request_ids([row.id for row in rows]),
        epoch=_column([int(row.epoch, 16) for row in rows], np.uint64),
        base=_column(bases, np.int32),
        token_offsets=np.cumsum([0, *map(len, tokens)], dtype=np.int32),
        tokens=_column([token for part in tokens for token in part], np.int32),
        digest=np.frombuffer(b"".join(row.digest for row in rows), DIGEST),
        temperature_bucket=_column([row.temperature_bucket for row in rows], np.uint8),
        tpot_ms=_column([row.request.tpot_ms for row in rows], np.float32),
        elapsed_ms=_column([_elapsed_ms(row, about.redis_ms) for row in rows], np.float32),
        committed=_column([row.num_output for row in rows], np.int32),
        weight=_column([row.speculation.weight for row in rows], np.float32),
        max_depth=_column(depths, np.uint8),
        warm=_column([not row.is_decoding for row in rows], np.bool_),
        schema_offsets=np.cumsum([0, *map(len, schemas)], dtype=np.int32),
        schema=np.frombuffer(b"".join(schemas), np.uint8),
        trace_row=_column([row for row, _ in traces], np.int32),
        traceparent=_column([traceparent for _, traceparent in traces], TRACEPARENT),
        inspect_row=_column([index for index, row in enumerate(rows) if row.request.inspect], np.int32),
    )


def _schemas(rows: Sequence[Generation], depths: list[int]) -> list[bytes]:
    """What each row's drafter is yet to be told; a row that finds no room for it is not drafted for this time."""
    schemas, room = [], MAX_AXIS["byte"]
    for index, row in enumerate(rows):
        is_new = depths[index] > 0 and row.speculation.acknowledged == 0
        schema = row.request.schema.encode() if is_new else b""
        if len(schema) > room:
            schema, depths[index] = b"", 0
        room -= len(schema)
        schemas.append(schema)
    return schemas


def may_draft(row: Generation, now_ms: float) -> bool:
    """Whether the drafter is asked for a tree, or to warm up, for this request."""
    return row.wants_trees and now_ms >= row.speculation.retry_ms


def _depth_of(row: Generation) -> int:
    """No deeper than the tokens the request may still produce, less the one the target adds itself."""
    left = row.rules.max_tokens - row.num_output - 1
    return max(0, min(row.request.max_depth, left, MAX_DEPTH))


def _elapsed_ms(row: Generation, redis_ms: float) -> float:
    return 0.0 if row.first_token_ms is None else max(0.0, redis_ms - row.first_token_ms)


def _column(values: Sequence[Any], dtype: Any) -> npt.NDArray[Any]:
    return np.array(values, dtype) if values else np.empty(0, dtype)
