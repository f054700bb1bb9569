"""From the draft's probabilities to those with which the target accepts, learned from label counts. Pure numpy.

A fit has two parts. *Scaling*: by temperature bucket and depth a scale and a bias of the raw logit (logistic
regression), shrunk level by level: towards the bucket's own fit over all depths, that towards one in which
neighbouring buckets help, that towards the identity. *Correction*: what the scaled probabilities of a bucket still
miss, bin by bin of the raw logit over all depths, shrunk towards nothing and made monotone (isotonic regression).
So a few labels change little, and a bucket without labels uses what the others know.

Applied, it is a lookup table over −ln q: piecewise linear, with the exponent and the first mantissa bits of a
float32 as the index, which costs no transcendental function.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from shared.labels import (
    BIN_CENTERS,
    MAX_CALIBRATED_DEPTH,
    NUM_BINS,
    NUM_BUCKETS,
    SHAPE,
    Float32,
    Float64,
    Integers,
    LabelCounts,
)
from shared.regression import MAX_RESULT, fit_corrections, fit_scaling
from shared.tree import Forest

SCALING_SHARE = 0.05  # of the scaled logit in the result: no two raw probabilities tie for the selection

# The table's knots in cost = −ln q: 0, then eight per octave from 2⁻¹² to 2⁵; beyond, the last piece goes on.
_SHIFT, _FIRST, _NUM_OCTAVES = 20, ((127 - 12) << 3) - 1, 17
_NUM_PIECES = 1 + 8 * _NUM_OCTAVES
_KNOTS: Float32 = np.append(
    np.float32(0.0), ((np.arange(1, _NUM_PIECES + 1, dtype=np.int32) + _FIRST) << _SHIFT).view(np.float32)
)
_COSTS = np.maximum(_KNOTS.astype(np.float64), 1e-4)
_KNOT_LOGITS: Float64 = -_COSTS - np.log(-np.expm1(-_COSTS))  # 9.2 for 0, where it would be infinite


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """ln q → intercept + slope · ln q, float32 [(bucket · MAX_CALIBRATED_DEPTH + depth - 1) · pieces + piece]."""

    intercepts: Float32
    slopes: Float32

    @classmethod
    def fit(cls, counts: LabelCounts) -> Self:
        """The calibration these labels suggest; about a millisecond. Without labels the identity, up to 0.9999."""
        scaling = fit_scaling(counts)
        corrections = fit_corrections(counts, scaling.apply(BIN_CENTERS))
        values = scaling.apply(_KNOT_LOGITS) + (1 - SCALING_SHARE) * _between_bins(corrections)
        logprobs = -np.logaddexp(0.0, -np.minimum(values, MAX_RESULT))
        costs = _KNOTS.astype(np.float64)
        slopes = -np.diff(logprobs) / np.diff(costs)
        intercepts = logprobs[..., :-1] + slopes * costs[:-1]
        return cls(intercepts.astype(np.float32).ravel(), slopes.astype(np.float32).ravel())

    def edges(self, logprobs: Float32, depths: Integers, buckets: Integers) -> Float32:
        """ln P(accepted | parent accepted), float32 [edges] and below 0, of raw edge log-probabilities.

        Rising with ``logprobs``; −∞ stays, NaN stays. ``depths`` count from 1, ``buckets`` are below NUM_BUCKETS.
        """
        return self._look_up(-logprobs, depths, _table_starts(buckets))

    def paths(self, forest: Forest, logprobs: Float32, buckets: Integers) -> Float32:
        """ln f(v), float32 [nodes], of raw path log-probabilities; no child above its parent.

        ``buckets`` int [rows] are the trees' temperatures.
        """
        with np.errstate(invalid="ignore", over="ignore"):
            edges = self._look_up(-forest.edges(logprobs), forest.depths, forest.each_node(_table_starts(buckets)))
            # In float64, where these sums are exact and so in the same order along every path.
            sums = forest.sum_paths(edges.astype(np.float64))
            return sums.astype(np.float32)

    def _look_up(self, costs: Float32, depths: Integers, starts: Integers) -> Float32:
        costs = np.maximum(costs, np.float32(0.0))
        pieces = np.minimum(np.maximum(costs.view(np.int32) >> _SHIFT, _FIRST), _FIRST + _NUM_PIECES - 1)
        places = np.minimum(depths, MAX_CALIBRATED_DEPTH) * _NUM_PIECES + starts + pieces
        calibrated: Float32 = self.intercepts[places] - self.slopes[places] * costs
        return calibrated

    def probabilities(self) -> Float64:
        """float64 [bucket, depth - 1, bin]: what the centre of each bin becomes."""
        bucket, depth, _ = np.indices(SHAPE)
        logprobs = np.broadcast_to(-np.logaddexp(0.0, -BIN_CENTERS), SHAPE).astype(np.float32)
        probabilities: Float64 = np.exp(self.edges(logprobs, depth + 1, bucket).astype(np.float64))
        return probabilities


def _table_starts(buckets: Integers) -> NDArray[np.int64]:
    """int64: what to add to depth · pieces and a float's leading bits to find its piece in the table."""
    known = np.minimum(buckets, NUM_BUCKETS - 1).astype(np.int64)
    return (known * MAX_CALIBRATED_DEPTH - 1) * _NUM_PIECES - _FIRST


def _between_bins(values: Float64) -> Float64:
    """[..., knots]: linear between the centres of the bins, constant beyond them."""
    places = np.clip((_KNOT_LOGITS - BIN_CENTERS[0]) / (BIN_CENTERS[1] - BIN_CENTERS[0]), 0, NUM_BINS - 1)
    left = np.minimum(places.astype(np.int64), NUM_BINS - 2)
    share = places - left
    between: Float64 = (1 - share) * values[..., left] + share * values[..., left + 1]
    return between
