"""The fit behind a calibration: logistic scaling by group, isotonic correction on top. Pure numpy.

All groups are fitted at once, as arrays [..., bin] of label counts over the fixed bins of the raw logit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.labels import BIN_CENTERS, MAX_CALIBRATED_DEPTH, NUM_BUCKETS, Float64, LabelCounts

RIDGE = 30.0  # of scale and bias, in labels of the highest information
KERNEL = 0.25  # weight of a label for the next temperature bucket, squared for the one after, ...
MAX_ROUNDS = 16  # of Newton's method, whose steps are at most MAX_STEP in both parameters
MAX_STEP, CONVERGED = 1.0, 1e-3
SCALE_RANGE = (0.1, 4.0)
BIAS_RANGE = (-8.0, 8.0)
CORRECTION_WEIGHT = 50.0  # labels that a bin's correction needs to be half believed
MAX_RESULT = 9.2  # logit of 0.9999: nothing is certain


@dataclass(frozen=True, slots=True, eq=False)
class Scaling:
    """logit' = scale · logit + bias; both float64 [bucket, depth - 1], or [bucket] over all depths."""

    scale: Float64
    bias: Float64

    def apply(self, logits: Float64) -> Float64:
        """Scaled logits, [..., logits]."""
        return self.scale[..., None] * logits + self.bias[..., None]


def fit_scaling(counts: LabelCounts) -> Scaling:
    """Scale and bias of every (bucket, depth), level by level."""
    distance = np.abs(np.subtract.outer(np.arange(NUM_BUCKETS), np.arange(NUM_BUCKETS)))
    by_bucket = counts.labels.sum(axis=1), counts.accepted.sum(axis=1)  # [bucket, bin]
    kernel = KERNEL**distance
    identity = Scaling(np.ones(NUM_BUCKETS), np.zeros(NUM_BUCKETS))
    helped = _regress(kernel @ by_bucket[0], kernel @ by_bucket[1], identity)
    whole = _regress(*by_bucket, helped)
    prior = Scaling(*(np.repeat(column[:, None], MAX_CALIBRATED_DEPTH, 1) for column in (whole.scale, whole.bias)))
    return _regress(counts.labels, counts.accepted, prior)


def _regress(labels: Float64, accepted: Float64, prior: Scaling) -> Scaling:
    """Penalised logistic regression of [..., bin] counts on the bin's logit, by Newton's method."""
    scale, bias = prior.scale.copy(), prior.bias.copy()
    for _ in range(MAX_ROUNDS):
        chances = sigmoid(scale[..., None] * BIN_CENTERS + bias[..., None])
        surplus, weights = accepted - labels * chances, labels * chances * (1 - chances)
        slope_scale = surplus @ BIN_CENTERS - RIDGE * (scale - prior.scale)
        slope_bias = surplus.sum(-1) - RIDGE * (bias - prior.bias)
        h_ss, h_sb, h_bb = weights @ BIN_CENTERS**2 + RIDGE, weights @ BIN_CENTERS, weights.sum(-1) + RIDGE
        determinant = h_ss * h_bb - h_sb**2
        step_scale = np.clip((h_bb * slope_scale - h_sb * slope_bias) / determinant, -MAX_STEP, MAX_STEP)
        step_bias = np.clip((h_ss * slope_bias - h_sb * slope_scale) / determinant, -MAX_STEP, MAX_STEP)
        scale = np.clip(scale + step_scale, *SCALE_RANGE)
        bias = np.clip(bias + step_bias, *BIAS_RANGE)
        if max(np.abs(step_scale).max(), np.abs(step_bias).max()) < CONVERGED:
            break
    return Scaling(scale, bias)


def fit_corrections(counts: LabelCounts, scaled: Float64) -> Float64:
    """float64 [bucket, depth - 1, bin]: what to add to a scaled logit so that the sum, rising, fits the bin.

    The accepted labels beyond the expected ones move a bin's probability, at all depths of the bucket alike. 0 in
    buckets without labels.
    """
    corrections = np.zeros_like(scaled)
    known = counts.labels.any(axis=(1, 2))
    labels, accepted, chances = counts.labels[known], counts.accepted[known], sigmoid(scaled[known])
    surplus = accepted - labels * chances
    moved = surplus.sum(1, keepdims=True) / (labels.sum(1, keepdims=True) + CORRECTION_WEIGHT)
    least = 1 / (1 + np.exp(MAX_RESULT))
    wanted = isotonic(np.clip(chances + moved, least, 1 - least), labels + CORRECTION_WEIGHT)
    corrections[known] = np.log(wanted / (1 - wanted)) - scaled[known]
    return corrections


def isotonic(values: Float64, weights: Float64) -> Float64:
    """[..., n]: the rising sequence closest to ``values`` in weighted squares (what pooling violators gives).

    By the min-max formula: at i the largest over starts ≤ i of the smallest over ends ≥ i of the weighted mean
    between them (Robertson, Wright, Dykstra 1988, theorem 1.4.4).
    """
    zero = np.zeros((*values.shape[:-1], 1))
    totals = np.concatenate([zero, np.cumsum(values * weights, -1)], -1)
    masses = np.concatenate([zero, np.cumsum(weights, -1)], -1)
    before = np.tri(values.shape[-1], k=-1, dtype=np.bool_)  # [start, end]: the end comes before the start
    mass = masses[..., None, 1:] - masses[..., :-1, None]
    means = (totals[..., None, 1:] - totals[..., :-1, None]) / np.where(before, 1.0, mass)
    smallest = np.minimum.accumulate(np.where(before, np.inf, means)[..., ::-1], -1)[..., ::-1]
    rising: Float64 = np.where(before, -np.inf, smallest).max(-2)
    return rising


def sigmoid(logits: NDArray[np.float64]) -> Float64:
    """Probabilities of logits that are not so extreme as to overflow."""
    chances: Float64 = 1.0 / (1.0 + np.exp(-logits))
    return chances
