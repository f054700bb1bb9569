"""Drawing tokens: argmax of processed logits plus Gumbel noise keyed by (seed, position, token id).

The noise is a function of the request alone, so a token does not depend on the tree, the batch, the drafter or a
take-over (docs/protocol.md, drawing tokens). Temperature 0 is plain argmax. All arithmetic is float64: logits
perturbed by 2e-5 then change 2e-5 of the draws, where inverse-CDF sampling would change 1e-3.

Processing order, as vLLM's but for the last two filters: bias and penalties (`adjustment`), grammar, min_tokens
mask, temperature, top_k, top_p, min_p. Ties are kept by every filter and broken towards the smaller id by argmax,
so no filter depends on the order of ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from services.verifier.adjustment import Adjustment
from shared.grammar import Mask
from shared.messages import Request

Float64 = npt.NDArray[np.float64]
UInt64 = npt.NDArray[np.uint64]

_MASK = 2**64 - 1
# Gumbel noise from 52-bit uniforms lies in [-3.6, 36.8]: an id this far below the best can never be drawn.
NOISE_SPAN = 41.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How one request's tokens are drawn. top_k 0, top_p 1 and min_p 0 filter nothing."""

    temperature: float
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 0

    @classmethod
    def of(cls, request: Request) -> SamplingParams:
        """How a request wants its tokens drawn."""
        return cls(
            temperature=request.temperature,
            top_k=request.top_k,
            top_p=request.top_p,
            min_p=request.min_p,
            seed=request.seed,
        )


@dataclass(frozen=True, slots=True)
class Draw:
    """One token to draw: ``position`` is the context index it fills, ``banned`` ids must not be drawn.

    ``path`` are the tokens drawn before it that the ``adjustment`` does not know yet: the node's own path.
    ``allowed``: bool [vocab], what its grammar lets follow the path; None: everything.
    """

    params: SamplingParams
    position: int
    banned: frozenset[int] = frozenset()
    adjustment: Adjustment | None = None
    path: Sequence[int] = ()
    allowed: Mask | None = None

    @property
    def is_plain(self) -> bool:
        """Whether it is the argmax of the logits as they are."""
        is_bent = self.banned or self.adjustment is not None or self.allowed is not None
        return self.params.temperature == 0.0 and not is_bent


def draw_tokens(logits: npt.NDArray[np.floating[Any]], draws: Sequence[Draw]) -> list[int]:
    """One token id per row of ``logits`` [n, vocab]."""
    tokens = np.argmax(logits, axis=1)
    for row, draw in enumerate(draws):
        if not draw.is_plain:
            tokens[row] = _draw(logits[row], draw)
    drawn: list[int] = tokens.tolist()
    return drawn


def probabilities(logits: npt.NDArray[np.floating[Any]], draw: Draw) -> tuple[npt.NDArray[np.intp], Float64]:
    """Ids that may be drawn from ``logits`` [vocab], and how likely each is; at temperature 0 a single one."""
    scores = _scores(logits, draw)
    if draw.params.temperature == 0.0:
        return np.array([np.argmax(scores)]), np.ones(1)
    ids, scores = filtered(scores, draw.params)
    weights = np.exp(scores)
    return ids, weights / weights.sum()


def _scores(logits: npt.NDArray[np.floating[Any]], draw: Draw) -> Float64:
    """Logits with what the request does to them, -inf where an id must not be drawn."""
    scores = logits.astype(np.float64)
    if draw.adjustment is not None:
        draw.adjustment.apply(scores, draw.path)
    return _permitted(scores, draw)


def _draw(logits: npt.NDArray[np.floating[Any]], draw: Draw) -> int:
    scores = _scores(logits, draw)
    if draw.params.temperature == 0.0:
        return int(np.argmax(scores))
    ids, scores = filtered(scores, draw.params)
    noise = gumbel_noise(draw.params.seed, draw.position, ids)
    return int(ids[np.argmax(scores + noise)])


def _permitted(scores: Float64, draw: Draw) -> Float64:
    """``scores`` without what the grammar forbids, and without the banned ids unless that leaves none.

    A grammar that has come to its end allows only the end: min_tokens yields there.
    """
    if draw.allowed is not None:
        scores[~draw.allowed] = -np.inf
    ids = [token for token in draw.banned if token < len(scores)]
    if ids:
        kept = scores[ids]
        scores[ids] = -np.inf
        if np.isneginf(scores).all():
            scores[ids] = kept
    return scores


def filtered(scores: Float64, params: SamplingParams) -> tuple[npt.NDArray[np.intp], Float64]:
    """Ids in rising order that may be drawn from ``scores`` [vocab], at least one.

    Also their scores relative to the best one, over the temperature. Relative before the division: the quotient by
    a tiny temperature then overflows downwards only, where it means what it should.
    """
    with np.errstate(over="ignore"):
        scores = (scores - scores.max()) / params.temperature
    threshold = -NOISE_SPAN
    if 0 < params.top_k < len(scores):
        threshold = max(threshold, float(np.partition(scores, -params.top_k)[-params.top_k]))
    ids = np.flatnonzero(scores >= threshold)
    if params.top_p < 1.0:
        ids = ids[_nucleus(scores, ids, params)]
    if params.min_p > 0.0:
        ids = ids[scores[ids] >= np.log(params.min_p)]
    return ids, scores[ids]


def _nucleus(scores: Float64, ids: npt.NDArray[np.intp], params: SamplingParams) -> npt.NDArray[np.bool_]:
    """Whether each id is in the smallest set of likeliest ids whose probability reaches top_p: bool [ids]."""
    kept = scores[ids]  # the best is 0
    # Ids beyond the noise span are below 1e-17 each, yet they count in the total, unless top_k cut them off.
    total_of = kept if params.top_k else scores
    total = np.exp(total_of).sum()
    probabilities = np.exp(kept)
    falling = np.sort(probabilities)[::-1]
    size = int(np.searchsorted(np.cumsum(falling), params.top_p * total)) + 1
    least = falling[min(size, len(falling)) - 1]
    in_nucleus: npt.NDArray[np.bool_] = probabilities >= least
    return in_nucleus


def gumbel_noise(seed: int, position: int, ids: npt.NDArray[np.integer[Any]]) -> Float64:
    """Standard Gumbel noise, float64 [ids]: -ln(-ln u), u = ((h >> 12) + 1/2) / 2^52.

    h = mix(mix(mix(seed) xor position) xor id), mix = splitmix64.
    """
    key = np.uint64(_mix_scalar(_mix_scalar(seed) ^ position))
    bits = _mix(key ^ ids.astype(np.uint64))
    uniform = ((bits >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
    noise: Float64 = -np.log(-np.log(uniform))
    return noise


def _mix_scalar(value: int) -> int:
    """splitmix64 of one number: the increment, then the finalizer (Steele, Lea, Flood 2014)."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def _mix(values: UInt64) -> UInt64:
    """splitmix64 of every value; numpy wraps unsigned products as the algorithm wants."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
