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
from services.verifier.gumbel import NOISE_SPAN, Loud, gumbel_noise, winner
from shared.grammar import Mask
from shared.messages import Request

Float64 = npt.NDArray[np.float64]


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

    @property
    def has_filter(self) -> bool:
        """Whether some ids may not be drawn for their rank or probability."""
        return self.top_k > 0 or self.top_p < 1.0 or self.min_p > 0.0

    @property
    def weighs_all(self) -> bool:
        """Whether every id may be drawn, however unlikely."""
        return self.temperature > 0.0 and not self.has_filter


@dataclass(frozen=True, slots=True)
class Draw:
    """One token to draw: ``position`` is the context index it fills, ``banned`` ids must not be drawn.

    ``path`` are the tokens drawn before it that the ``adjustment`` does not know yet: the node's own path.
    ``allowed``: bool [vocab], what its grammar lets follow the path; None: everything. ``loud``: what is known of
    the position's noise; the token is the same without.
    """

    params: SamplingParams
    position: int
    banned: frozenset[int] = frozenset()
    adjustment: Adjustment | None = None
    path: Sequence[int] = ()
    allowed: Mask | None = None
    loud: Loud | None = None

    @property
    def is_bent(self) -> bool:
        """Whether the request does something to the logits before any filter."""
        return bool(self.banned) or self.adjustment is not None or self.allowed is not None


def draw_token(logits: npt.NDArray[np.floating[Any]], draw: Draw) -> int:
    """One token id from ``logits`` [vocab]."""
    scores = _scores(logits, draw) if draw.is_bent else logits
    return draw_freely(scores, draw.params, draw.position, draw.loud)


def draw_freely(
    scores: npt.NDArray[np.floating[Any]], params: SamplingParams, position: int, loud: Loud | None = None
) -> int:
    """The token id of a `Draw` that is not bent, or has been applied to ``scores`` [vocab]."""
    if params.temperature == 0.0:
        return int(scores.argmax())
    if not params.has_filter:
        return winner(scores, params.temperature, params.seed, position, loud)
    ids, kept = filtered(scores.astype(np.float64), params)
    noise = gumbel_noise(params.seed, position, ids)
    return int(ids[np.argmax(kept + noise)])


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
