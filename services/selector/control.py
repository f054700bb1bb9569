"""How deep and wide the drafter speculates next (eqs. 8 and 9), and how long an iteration is expected to take."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from shared.latency import LatencyModel

FIRST_DEPTH = 4  # of the first round of new requests
GRANT_STEPS = 65  # a grant of prompt tokens need not be exact
LONGEST_MS = 60_000.0  # no iteration takes a minute; a corrupted hint may say so


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySettings:
    """Constants of algorithm 2 and of its adaptive control; bounds are checked in `settings.py`."""

    policy: Literal["paper", "adaserve"] = "adaserve"
    min_depth: int = 1  # D_min
    max_depth: int = 8  # D_max
    max_width: int = 3  # W_max
    depth_offset: int = 0  # c1
    width_offset: int = 0  # c2
    draft_tokens_per_step: int = 96  # B2
    budget: int | None = None  # B (and B1); None: from the verifier's latency model
    budget_ratio: float = 2.5  # largest B with T(B) ≤ ratio · T(1)
    slo_nodes_factor: float = 1.2  # n_max = ⌈factor · B / n⌉
    prefill_factor: float = 2.0  # prompt tokens per iteration ≤ ⌈factor · B⌉; the artifact has 1024 beside B = 512

    # Beyond the paper, policy "adaserve" only; the switches are for ablation.
    slo_aware: bool = True  # off: no SLO phase, no weights
    cost_aware_budget: bool = True  # off: the fixed budget above
    cost_aware_depth: bool = True  # off: eq. 8
    cost_aware_width: bool = True  # off: eq. 9
    plain_decoding: bool = True  # off: at least min_depth levels are always drafted
    prefill_urgency: bool = True  # off: prompts get their share whatever their deadline
    least_weight: float = 0.2  # of a request far ahead of its schedule, or without one
    slack_tokens: float = 16.0  # how far ahead that is
    prefill_share: float = 3.0  # prompts may stretch an iteration by this share of its length


def token_budget(table: LatencyModel, settings: PolicySettings) -> int:
    """B: tokens that one verification forward should hold, roots included."""
    return settings.budget or _largest_budget(table, settings.budget_ratio)


@lru_cache(maxsize=64)
def _largest_budget(table: LatencyModel, ratio: float) -> int:
    return table.budget(ratio)


def next_depth(num_rows: int, budget: int, settings: PolicySettings) -> int:
    """Eq. 8: d = clip(D_max, D_min, ⌊B1 / (n + c1)⌋ − 1), with B1 = B."""
    depth = budget // (max(num_rows, 1) + settings.depth_offset) - 1
    return max(settings.min_depth, min(settings.max_depth, depth))


def next_width(num_rows: int, settings: PolicySettings) -> int:
    """Eq. 9: w = clip(W_max, 1, ⌊B2 / n⌋ + c2), with B2 what the drafter can hold in one step."""
    width = settings.draft_tokens_per_step // max(num_rows, 1) + settings.width_offset
    return max(1, min(settings.max_width, width))


def prefill_grant(backlog: int, budget: int, settings: PolicySettings) -> int:
    """Prompt tokens that the coming forward may feed beside the budget."""
    return min(backlog, math.ceil(settings.prefill_factor * budget))


def prefill_within(model: LatencyModel, num_rows: int, backlog: int, allowed_ms: float) -> int:
    """Most of the `backlog` prompt tokens that lengthen a forward over `num_rows` by `allowed_ms` at most."""
    alone_ms = model.predict_ms(max(num_rows, 1))
    if model.predict_ms(max(num_rows, 1) + backlog) - alone_ms <= allowed_ms:  # as a rule
        return backlog
    few, many = np.arange(min(backlog, GRANT_STEPS) + 1), np.linspace(0, backlog, GRANT_STEPS)
    sizes = np.unique(np.concatenate((few, many)).astype(np.int64))
    longer_ms = model.predict_ms(sizes + max(num_rows, 1)) - alone_ms
    return int(sizes[np.searchsorted(longer_ms, allowed_ms, side="right") - 1])


def predict_period_ms(
    table: LatencyModel, num_tokens: int, *, context_tokens: int, rows: int, draft_ms: float, overhead_ms: float
) -> float:
    """t_spec in ms: from sending the DraftRequest to the commit, for a forward over `num_tokens` of `rows`.

    Draft time as the drafter measured it, plus T(n, S, rows), plus what the verifier measured that an iteration
    costs besides the two.
    """
    verify_ms = table.predict_ms(num_tokens, context_tokens=context_tokens, rows=rows)
    return min(draft_ms + verify_ms + overhead_ms, LONGEST_MS)
