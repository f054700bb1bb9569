"""The paper's policy: algorithm 2 with a fixed budget, depth and width by eqs. 8 and 9. Pure."""

from __future__ import annotations

import math

import numpy as np

from services.selector.control import (
    PolicySettings,
    next_depth,
    next_width,
    predict_period_ms,
    prefill_grant,
    token_budget,
)
from services.selector.decision import Decision, context_tokens, num_running, unit_weights
from services.selector.ranking import Candidates
from services.selector.selection import select
from shared.latency import LatencyModel
from shared.messages import CandidateTrees
from shared.slo import tokens_needed


def decide_paper(
    batch: CandidateTrees, model: LatencyModel, settings: PolicySettings, candidates: Candidates
) -> Decision:
    """Algorithm 2, steps 2 and 3, on one batch."""
    num_rows = num_running(batch)
    budget = token_budget(model, settings)
    prefill_tokens = prefill_grant(batch.prefill_tokens, budget, settings)
    predicted_ms = predict_period_ms(
        model,
        max(budget, num_rows) + prefill_tokens,
        context_tokens=context_tokens(batch),
        rows=num_rows,
        draft_ms=batch.draft_ms,
        overhead_ms=batch.overhead_ms,
    )
    needed = tokens_needed(batch.elapsed_ms, predicted_ms, batch.tpot_ms, batch.committed)
    selection = select(
        candidates,
        needed if settings.slo_aware else np.zeros_like(needed),
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
        weight=unit_weights(batch),
        needed=needed,
    )
