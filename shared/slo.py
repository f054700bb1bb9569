"""Arithmetic of per-request targets: what this iteration owes, and whether a request got what it asked for.

Pure; times are arguments in milliseconds. One definition of TPOT serves selection and report (docs/api.md).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray


def tokens_needed(
    elapsed_ms: ArrayLike, t_spec_ms: ArrayLike, tpot_target_ms: ArrayLike, committed: ArrayLike
) -> NDArray[np.float64]:
    """A(r) of the paper: tokens that must come out of the coming iteration to be on target after it.

    A = (l + t_spec) / t_TPOT − o, never negative, with l `elapsed_ms` since the first token's commit, t_spec the
    predicted length of the iteration and o = committed − 1, as TPOT does not count the first token. Arguments
    broadcast. A target of +inf is best effort: A = 0; so is one that is no positive number, which only a corrupted
    hint carries.
    """
    target = np.asarray(tpot_target_ms, dtype=np.float64)
    spent = np.asarray(elapsed_ms, dtype=np.float64) + np.asarray(t_spec_ms, dtype=np.float64)
    earned = np.maximum(np.asarray(committed, dtype=np.float64) - 1.0, 0.0)
    has_target = (target > 0.0) & (target < math.inf)
    needed = spent / np.where(has_target, target, 1.0) - earned
    return np.where(has_target, np.fmax(needed, 0.0), 0.0)


def tokens_owed(
    elapsed_ms: ArrayLike, t_spec_ms: ArrayLike, tpot_target_ms: ArrayLike, earned: ArrayLike
) -> NDArray[np.float64]:
    """A(r) not cut at 0: negative for a request ahead of its schedule, −inf for one without a valid target.

    `earned` are the output tokens after the first.
    """
    target = np.asarray(tpot_target_ms, dtype=np.float64)
    has_target = (target > 0.0) & (target < math.inf)
    spent = np.asarray(elapsed_ms, dtype=np.float64) + np.asarray(t_spec_ms, dtype=np.float64)
    owed = spent / np.where(has_target, target, 1.0) - np.asarray(earned, dtype=np.float64)
    return np.where(has_target, owed, -math.inf)


def tpot_ms(first_ms: float, last_ms: float, tokens: int) -> float:
    """Time per output token in ms: (last − first) / (tokens − 1). Fewer than two tokens have no gap: 0.0."""
    if tokens < 2:
        return 0.0
    return max(last_ms - first_ms, 0.0) / (tokens - 1)


def attained(*, tpot: float, tpot_target: float, ttft: float = 0.0, ttft_target: float = math.inf) -> bool:
    """Whether a request met its SLO: TPOT ≤ target and, where one is set, TTFT ≤ target (ms, +inf = none)."""
    return tpot <= tpot_target and ttft <= ttft_target
