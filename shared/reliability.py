"""How far predicted acceptance is from what happened, from label counts. Pure numpy.

``probabilities`` float64 [bucket, depth - 1, bin] are predictions for the bins of the counts: the draft's own
(`RAW`) or a `Calibration`'s. They say something about the future only if the labels came after the fit.
"""

from __future__ import annotations

import numpy as np

from shared.labels import BIN_CENTERS, SHAPE, Float64, LabelCounts
from shared.regression import sigmoid

NUM_GROUPS = 10
RAW: Float64 = np.broadcast_to(sigmoid(BIN_CENTERS), SHAPE)


def calibration_error(counts: LabelCounts, probabilities: Float64) -> float:
    """Expected calibration error over ten equal intervals of the prediction (Guo et al. 2017, eq. 3).

    0 without labels.
    """
    groups = np.minimum(probabilities * NUM_GROUPS, NUM_GROUPS - 1).astype(np.int64)
    surplus = counts.accepted - counts.labels * probabilities
    gaps = np.bincount(groups.ravel(), surplus.ravel(), NUM_GROUPS)
    return float(np.abs(gaps).sum()) / max(counts.num_labels, 1.0)


def brier_score(counts: LabelCounts, probabilities: Float64) -> float:
    """Mean squared difference of label and prediction; 0 without labels."""
    rejected = counts.labels - counts.accepted
    squares = counts.accepted * (1 - probabilities) ** 2 + rejected * probabilities**2
    return float(squares.sum()) / max(counts.num_labels, 1.0)


def expected_accepted(counts: LabelCounts, probabilities: Float64) -> float:
    """How many of the judged edges should have been accepted."""
    return float((counts.labels * probabilities).sum())
