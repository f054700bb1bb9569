"""What a policy answers, and what every policy reads of a batch. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.selector.control import LONGEST_MS, PolicySettings
from services.selector.ranking import Candidates
from services.selector.selection import Selection, select
from shared.calibration import Calibration
from shared.messages import CandidateTrees


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decision:
    """What the verifier is told: nodes, and the control of the next iteration. `weight` float32 [rows].

    `needed` float64 [rows] is A(r) as the policy saw it, for who wants to know why: below 0 for a request ahead of
    its schedule where the policy looks that far, −∞ or 0 for one without a target.
    """

    selection: Selection
    budget_used: int
    predicted_ms: float
    prefill_tokens: int
    depth: int
    width: int
    stop_value: float
    weight: NDArray[np.float32]
    needed: NDArray[np.float64]


def bare_roots(batch: CandidateTrees, settings: PolicySettings) -> Decision:
    """Without a latency model there is neither a budget nor a prediction.

    No nodes, the shallowest speculation until the model is there, and as much prefill as the verifier's own chunk
    allows.
    """
    needed = np.zeros(len(batch.request))
    return Decision(
        selection=select(candidates_of(batch), needed, room=0, max_slo_nodes=0),
        budget_used=num_running(batch),
        predicted_ms=min(batch.draft_ms + batch.overhead_ms, LONGEST_MS),
        prefill_tokens=batch.prefill_tokens,
        depth=settings.min_depth,
        width=1,
        stop_value=0.0,
        weight=unit_weights(batch),
        needed=needed,
    )


def num_running(batch: CandidateTrees) -> int:
    """Rows that put a root into the coming forward: all but those still being prefilled."""
    return int(np.count_nonzero(~batch.warm))


def context_tokens(batch: CandidateTrees) -> int:
    """S: KV tokens that the roots and their trees read; prompts that are being prefilled are left out."""
    return int(np.maximum(batch.position[~batch.warm], 0).sum(dtype=np.int64))


def candidates_of(batch: CandidateTrees, calibration: Calibration | None = None) -> Candidates:
    """The trees with the draft's path probabilities, or with what the calibration makes of them."""
    candidates = Candidates(offsets=batch.tree_offsets, parents=batch.parents, logprobs=batch.logprobs)
    return candidates if calibration is None else candidates.judged_by(calibration, batch.temperature_bucket)


def unit_weights(batch: CandidateTrees) -> NDArray[np.float32]:
    """Every request alike."""
    return np.ones(len(batch.request), dtype=np.float32)
