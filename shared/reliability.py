"""How far predicted acceptance is from what happened, from label counts. Pure numpy.

``probabilities`` float64 [bucket, depth - 1, bin] are predictions for the bins of the counts: the draft's own
(`RAW`) or a `Calibration`'s. They say something about the future only if the labels came after the fit.
"""

from __future__ import annotations

import numpy as np

from shared.labels import BIN_CENTERS, NUM_BUCKETS, SHAPE, Float64, LabelCounts
from shared.regression import sigmoid

NUM_INTERVALS = 10
RAW: Float64 = np.broadcast_to(sigmoid(BIN_CENTERS), SHAPE)


def calibration_error(counts: LabelCounts, probabilities: Float64, *, pooled: bool = False) -> float:
    """Expected calibration error over ten equal intervals of the prediction (Guo et al. 2017, eq. 3).

    The mean over the labels of each temperature's own error; ``pooled`` lets what is too high at one temperature
    cancel what is too low at another. 0 without labels.
    """
    gaps = _grouped(counts.accepted - counts.labels * probabilities, probabilities)
    return float(np.abs(gaps.sum(0) if pooled else gaps).sum()) / max(counts.num_labels, 1.0)


def sampling_error(counts: LabelCounts, probabilities: Float64, *, pooled: bool = False) -> float:
    """What `calibration_error` is expected to find in so many labels where every prediction is right."""
    variances = _grouped(counts.labels * probabilities * (1 - probabilities), probabilities)
    deviations = np.sqrt(2 / np.pi * (variances.sum(0) if pooled else variances))
    return float(deviations.sum()) / max(counts.num_labels, 1.0)


def _grouped(values: Float64, probabilities: Float64) -> Float64:
    """[bucket, interval] sums of values [bucket, depth - 1, bin]."""
    intervals = np.minimum(probabilities * NUM_INTERVALS, NUM_INTERVALS - 1).astype(np.int64)
    places = intervals + np.arange(NUM_BUCKETS)[:, None, None] * NUM_INTERVALS
    sums = np.bincount(places.ravel(), values.ravel(), NUM_BUCKETS * NUM_INTERVALS).astype(np.float64)
    return sums.reshape(NUM_BUCKETS, NUM_INTERVALS)


def brier_score(counts: LabelCounts, probabilities: Float64) -> float:
    """Mean squared difference of label and prediction; 0 without labels."""
    rejected = counts.labels - counts.accepted
    squares = counts.accepted * (1 - probabilities) ** 2 + rejected * probabilities**2
    return float(squares.sum()) / max(counts.num_labels, 1.0)


def expected_accepted(counts: LabelCounts, probabilities: Float64) -> float:
    """How many of the judged edges should have been accepted."""
    return float((counts.labels * probabilities).sum())
