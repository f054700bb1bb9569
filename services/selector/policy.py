"""The selector's decision for one batch, as a pure function: the paper's algorithm 2 with eqs. 8 and 9.

Another policy is another function of the same shape.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.selector.control import (
    LONGEST_MS,
    PolicySettings,
    next_depth,
    next_width,
    predict_period_ms,
    prefill_grant,
    token_budget,
)
from services.selector.ranking import Candidates
from services.selector.selection import Selection, select
from shared.latency import LatencyModel
from shared.messages import CandidateTrees
from shared.slo import tokens_needed


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decision:
    """What the verifier is told: nodes, and the control of the next iteration. `weight` float32 [rows]."""

    selection: Selection
    budget_used: int
    predicted_ms: float
    prefill_tokens: int
    depth: int
    width: int
    stop_value: float
    weight: NDArray[np.float32]


def decide(batch: CandidateTrees, table: LatencyModel | None, settings: PolicySettings) -> Decision:
    """Algorithm 2 on one batch of candidate trees.

    Without a latency model there is neither a budget nor a prediction: no nodes, the shallowest speculation until
    the model is there, and as much prefill as the verifier's own chunk allows.
    """
    num_rows = _num_running(batch)
    if table is None:
        return _bare_roots(batch, num_rows, settings)
    budget = token_budget(table, settings)
    prefill_tokens = prefill_grant(batch.prefill_tokens, budget, settings)
    predicted_ms = predict_period_ms(
        table,
        max(budget, num_rows) + prefill_tokens,
        context_tokens=int(np.maximum(batch.position, 0).sum(dtype=np.int64)),
        rows=len(batch.request),
        draft_ms=batch.draft_ms,
        overhead_ms=batch.overhead_ms,
    )
    selection = select(
        _candidates(batch),
        tokens_needed(batch.elapsed_ms, predicted_ms, batch.tpot_ms, batch.committed),
        room=max(budget - num_rows, 0),
        max_slo_nodes=math.ceil(settings.slo_nodes_factor * budget / max(num_rows, 1)),
    )
    return Decision(
        selection=selection,
        budget_used=num_rows + selection.num_nodes,
        predicted_ms=predicted_ms,
        prefill_tokens=prefill_tokens,
        depth=next_depth(num_rows, budget, settings),
        width=next_width(num_rows, settings),
        stop_value=0.0,
        weight=_unit_weights(batch),
    )


def _bare_roots(batch: CandidateTrees, num_rows: int, settings: PolicySettings) -> Decision:
    needed = np.zeros(len(batch.request))
    return Decision(
        selection=select(_candidates(batch), needed, room=0, max_slo_nodes=0),
        budget_used=num_rows,
        predicted_ms=min(batch.draft_ms + batch.overhead_ms, LONGEST_MS),
        prefill_tokens=batch.prefill_tokens,
        depth=settings.min_depth,
        width=1,
        stop_value=0.0,
        weight=_unit_weights(batch),
    )


def _num_running(batch: CandidateTrees) -> int:
    """Rows that put a root into the coming forward: all but those still being prefilled."""
    return int((~batch.warm).sum())


def _candidates(batch: CandidateTrees) -> Candidates:
    return Candidates(offsets=batch.tree_offsets, parents=batch.parents, logprobs=batch.logprobs)


def _unit_weights(batch: CandidateTrees) -> NDArray[np.float32]:
    return np.ones(len(batch.request), dtype=np.float32)
