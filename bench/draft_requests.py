"""Drafting asked for as a verifier asks, where a bench drives a drafter without one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shared import digest
from shared.messages import DIGEST, TRACEPARENT, DraftRequest, request_ids


def draft_request(
    contexts: Sequence[Sequence[int]],
    *,
    known: Sequence[int],
    committed: Sequence[int],
    depth: int,
    width: int,
    verifier: str = "bench",
    drafter: str = "bench",
    step: int = 0,
    profile: str = "",
) -> DraftRequest:
    """A tree for every one of ``contexts``, of which the drafter holds the first ``known`` tokens.

    ``committed`` of each are output. No row is in a hurry, and no level is left out for earning too little.
    """
    size = len(contexts)
    parts = [context[base:] for context, base in zip(contexts, known, strict=True)]
    return DraftRequest(
        verifier=verifier,
        drafter=drafter,
        ring=0,
        step=step,
        depth=depth,
        width=width,
        stop_value=0.0,
        prefill_tokens=0,
        prefill_slack_ms=0.0,
        profile=profile,
        overhead_ms=0.0,
        calibration="",
        request=request_ids([f"{row + 1:032x}" for row in range(size)]),
        epoch=np.ones(size, np.uint64),
        base=np.array(known, np.int32),
        token_offsets=np.cumsum([0, *map(len, parts)], dtype=np.int32),
        tokens=np.array([token for part in parts for token in part], np.int32),
        digest=np.frombuffer(b"".join(digest.extend(digest.EMPTY, context) for context in contexts), DIGEST),
        temperature_bucket=np.zeros(size, np.uint8),
        tpot_ms=np.full(size, np.inf, np.float32),
        elapsed_ms=np.zeros(size, np.float32),
        committed=np.array(committed, np.int32),
        weight=np.ones(size, np.float32),
        max_depth=np.full(size, depth, np.uint8),
        warm=np.zeros(size, np.bool_),
        schema_offsets=np.zeros(size + 1, np.int32),
        schema=np.empty(0, np.uint8),
        trace_row=np.empty(0, np.int32),
        traceparent=np.empty(0, TRACEPARENT),
    )
