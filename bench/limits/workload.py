"""Ring messages to measure on: made up, and the same in every run."""

from __future__ import annotations

import math

import numpy as np

from bench.selection_speed import draw_batch
from shared.messages import DIGEST, TRACEPARENT, CandidateTrees, DraftRequest, SelectedTrees

NODES = 24  # of a candidate tree: depth 8, width 3
NEW_TOKENS = 3  # of a request since the drafter was last told
SHARED_COLUMNS = ("request", "epoch", "position", "acknowledged", "weight", "tree_offsets", "tokens", "parents")


def candidate_trees(num_rows: int, seed: int = 0) -> CandidateTrees:
    """A drafter's answer with NODES nodes for each request."""
    return draw_batch(np.random.default_rng(seed), num_rows)


def draft_request(num_rows: int, seed: int = 0) -> DraftRequest:
    """What the answer above is to: NEW_TOKENS tokens of each request."""
    answer, rng = candidate_trees(num_rows, seed), np.random.default_rng(seed)
    return DraftRequest(
        verifier=answer.verifier,
        drafter=answer.drafter,
        ring=answer.ring,
        step=answer.step,
        depth=answer.depth,
        width=answer.width,
        stop_value=0.5,
        prefill_tokens=0,
        prefill_slack_ms=math.inf,
        profile=answer.profile,
        overhead_ms=answer.overhead_ms,
        calibration=answer.calibration,
        request=answer.request,
        epoch=answer.epoch,
        base=answer.position - NEW_TOKENS,
        token_offsets=np.arange(num_rows + 1, dtype=np.int32) * NEW_TOKENS,
        tokens=rng.integers(0, 4096, NEW_TOKENS * num_rows, np.int32),
        digest=np.frombuffer(rng.bytes(8 * num_rows), DIGEST),
        temperature_bucket=answer.temperature_bucket,
        tpot_ms=answer.tpot_ms,
        elapsed_ms=answer.elapsed_ms,
        committed=answer.committed,
        weight=answer.weight,
        max_depth=answer.max_depth,
        warm=answer.warm,
        schema_offsets=np.zeros(num_rows + 1, np.int32),
        schema=np.empty(0, np.uint8),
        trace_row=answer.trace_row,
        traceparent=answer.traceparent,
    )


def selected_trees(num_rows: int, seed: int = 0) -> SelectedTrees:
    """A selector's answer that takes every candidate."""
    offered = candidate_trees(num_rows, seed)
    return SelectedTrees(
        verifier=offered.verifier,
        drafter=offered.drafter,
        ring=offered.ring,
        step=offered.step,
        budget_used=len(offered.tokens),
        predicted_ms=40.0,
        draft_ms=offered.draft_ms,
        prefill_tokens=0,
        depth=4,
        width=3,
        stop_value=0.5,
        late=np.zeros(num_rows, np.bool_),
        logprobs=offered.logprobs,
        phase=np.zeros(len(offered.tokens), np.uint8),
        trace_row=np.empty(0, np.int32),
        traceparent=np.empty(0, TRACEPARENT),
        **{name: getattr(offered, name) for name in SHARED_COLUMNS},
    )
