"""How deep and wide the drafter speculates next (eqs. 8 and 9), and how long an iteration is expected to take."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from shared.latency import LatencyModel

LONGEST_MS = 60_000.0  # no iteration takes a minute; a corrupted hint may say so


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySettings:
    """Constants of algorithm 2 and of its adaptive control; bounds are checked in `settings.py`."""

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


@lru_cache(maxsize=64)
def token_budget(table: LatencyModel, settings: PolicySettings) -> int:
    """B: tokens that one verification forward should hold, roots included."""
    return settings.budget or table.budget(settings.budget_ratio)


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


def predict_period_ms(
    table: LatencyModel, num_tokens: int, *, context_tokens: int, rows: int, draft_ms: float, overhead_ms: float
) -> float:
    """t_spec in ms: from sending the DraftRequest to the commit, for a forward over `num_tokens` of `rows`.

    Draft time as the drafter measured it, plus T(n, S, rows), plus what the verifier measured that an iteration
    costs besides the two.
    """
    verify_ms = table.predict_ms(num_tokens, context_tokens=context_tokens, rows=rows)
    return min(draft_ms + verify_ms + overhead_ms, LONGEST_MS)
