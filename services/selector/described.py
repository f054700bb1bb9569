"""What the spans of a selection say: what a row needed, what it got, and what was there to be had. Pure."""

from __future__ import annotations

import math

import numpy as np

from services.selector.decision import Decision
from shared import signals
from shared.messages import SLO_PHASE, CandidateTrees
from shared.tracing import Attributes
from shared.tree import TokenTree


def row(message: CandidateTrees, decision: Decision, index: int, wait_ms: float) -> Attributes:
    """Of one request. A row without a target needs nothing: then there is no A."""
    selection, need = decision.selection, float(decision.needed[index])
    start, end = selection.offsets[index : index + 2].tolist()
    num_slo_nodes = int(np.count_nonzero(selection.phase[start:end] == SLO_PHASE))
    chosen = selection.nodes[start:end]
    tree = TokenTree(message.tokens[chosen], selection.parents[start:end], message.logprobs[chosen])
    is_finite = math.isfinite(need) and math.isfinite(message.tpot_ms[index])
    return {
        **({signals.SLO_NEED: need} if is_finite else {}),
        signals.SLO_WEIGHT: float(decision.weight[index]),
        signals.SLO_LATE: bool(selection.late[index]),
        signals.NUM_NODES: int(message.tree_offsets[index + 1] - message.tree_offsets[index]),
        signals.NUM_SELECTED: end - start,
        signals.NUM_SLO_NODES: num_slo_nodes,
        signals.NUM_THROUGHPUT_NODES: end - start - num_slo_nodes,
        signals.DEPTH: int(tree.depths().max(initial=0)),
        signals.BUDGET: decision.budget_used,
        signals.BUDGET_SHARE: (1 + end - start) / max(1, decision.budget_used),
        signals.PREDICTED_MS: decision.predicted_ms,
        signals.HOP_WAIT_MS: wait_ms,
    }


def batch(message: CandidateTrees, decision: Decision, wait_ms: float) -> Attributes:
    """Of all rows together, and the control of the next iteration."""
    selection = decision.selection
    num_slo_nodes = int(np.count_nonzero(selection.phase == SLO_PHASE))
    return {
        signals.STEP: message.step,
        signals.NUM_ROWS: len(message.request),
        signals.NUM_NODES: len(message.tokens),
        signals.NUM_SELECTED: selection.num_nodes,
        signals.NUM_SLO_NODES: num_slo_nodes,
        signals.BUDGET: decision.budget_used,
        signals.DEPTH: decision.depth,
        signals.WIDTH: decision.width,
        signals.PREDICTED_MS: decision.predicted_ms,
        signals.HOP_WAIT_MS: wait_ms,
    }
