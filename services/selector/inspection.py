"""What the selector tells of inspected rows: all candidates as it judged them, and what it chose. Pure.

A hint may hold anything: a row that makes no valid message is not told.
"""

from __future__ import annotations

from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from services.selector.decision import Decision, candidates_of, num_running
from services.selector.ranking import Float64
from shared.calibration import Calibration
from shared.fields import FieldError
from shared.inspection import MAX_CANDIDATES, InspectedTree
from shared.messages import CandidateTrees
from shared.slo import tokens_needed

Int64 = NDArray[np.int64]


def trees(
    message: CandidateTrees, decision: Decision, calibration: Calibration | None, *, select_ms: float
) -> list[tuple[str, InspectedTree]]:
    """Of each inspected row that decodes its request's id and what to tell of it."""
    rows = [row for row in message.inspect_row.tolist() if not message.warm[row]]
    if not rows:
        return []
    logprobs = candidates_of(message, calibration).logprobs
    probability = np.exp(np.where(np.isnan(logprobs), np.float32(-np.inf), np.minimum(logprobs, np.float32(0.0))))
    needed = tokens_needed(message.elapsed_ms, decision.predicted_ms, message.tpot_ms, message.committed)
    told = []
    for row in rows:
        with suppress(FieldError):
            tree = _tree(message, decision, row, probability, needed, select_ms)
            told.append((message.request[row].tobytes().hex(), tree))
    return told


def _tree(
    message: CandidateTrees,
    decision: Decision,
    row: int,
    probability: NDArray[np.float32],
    needed: Float64,
    select_ms: float,
) -> InspectedTree:
    first, end = message.tree_offsets[row : row + 2].tolist()
    start, stop = decision.selection.offsets[row : row + 2].tolist()
    chosen = decision.selection.nodes[start:stop][:MAX_CANDIDATES] - first
    kept = _kept(chosen, end - first)
    place = np.full(end - first + 1, -1, np.int16)  # the last is the root's
    place[kept] = np.arange(len(kept))
    return InspectedTree(
        step=message.step,
        position=int(message.position[row]),
        need=float(needed[row]) if np.isfinite(message.tpot_ms[row]) else None,
        budget=decision.budget_used,
        rows=num_running(message),
        depth=message.depth,
        width=message.width,
        draft_ms=message.draft_ms,
        select_ms=select_ms,
        predicted_ms=float(decision.predicted_ms),
        tokens=message.tokens[first:end][kept],
        parents=place[message.parents[first:end][kept]],
        probability=probability[first:end][kept],
        chosen=place[chosen],
        phase=decision.selection.phase[start:stop][:MAX_CANDIDATES],
    )


def _kept(chosen: Int64, num_candidates: int) -> Int64:
    """int64: at most MAX_CANDIDATES nodes in level order, all that were chosen and the first of the others.

    Both are closed under ancestors, and so are they together.
    """
    if num_candidates <= MAX_CANDIDATES:
        return np.arange(num_candidates)
    others = np.setdiff1d(np.arange(num_candidates), chosen)
    return np.sort(np.concatenate((chosen, others[: MAX_CANDIDATES - len(chosen)])))
