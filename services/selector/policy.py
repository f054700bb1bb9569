"""The selector's decision for one batch, as a pure function: dispatch to the policy of the settings.

Another policy is another function of the same shape.
"""

from __future__ import annotations

from services.selector.control import PolicySettings
from services.selector.cost_aware import decide_cost_aware
from services.selector.decision import Decision, bare_roots, candidates_of
from services.selector.paper import decide_paper
from shared.calibration import Calibration
from shared.latency import LatencyModel
from shared.messages import CandidateTrees

__all__ = ["POLICIES", "Decision", "decide"]

POLICIES = {"paper": decide_paper, "adaserve": decide_cost_aware}


def decide(
    batch: CandidateTrees,
    model: LatencyModel | None,
    settings: PolicySettings,
    calibration: Calibration | None = None,
) -> Decision:
    """What to verify now and how to draft next. Without a latency model: bare roots.

    With a `calibration`, f(v) is what it makes of the draft's probabilities.
    """
    if model is None:
        return bare_roots(batch, settings)
    return POLICIES[settings.policy](batch, model, settings, candidates_of(batch, calibration))
