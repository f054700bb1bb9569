"""A latency model of measured forward passes. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.latency import LatencyModel

_ROUNDS = 20
_QUANTILE = 0.4  # a little under the median: noise only ever adds time
_LEAST_SHARE = 0.05  # of a measured time is left to the curve, whatever context and rows explain

Float64 = NDArray[np.float64]


class Sample(NamedTuple):
    """One measured forward: new tokens n, tokens of KV read S, rows, and what it took."""

    tokens: int
    context_tokens: int
    rows: int
    ms: float


def fit(samples: Sequence[Sample], *, buckets: tuple[int, ...] = ()) -> LatencyModel:
    """The model of samples over several token counts, contexts and numbers of rows.

    One free value of the curve per token count, and the two slopes, by quantile regression on relative errors, so
    that a pass the machine was taken away from does not count more than another. Slopes that the samples do not
    show, or show as negative, are 0. Raises ValueError where `LatencyModel` does.
    """
    tokens, context, rows, ms = (np.array(column, np.float64) for column in zip(*samples, strict=True))
    counts, knot = np.unique(tokens.astype(np.int64), return_inverse=True)
    slopes = _slopes(np.column_stack([context / 1e3, rows]), knot, ms)
    bare = np.maximum(ms - context / 1e3 * slopes[0] - rows * slopes[1], _LEAST_SHARE * ms)
    typical = [float(np.quantile(bare[knot == index], _QUANTILE)) for index in range(len(counts))]
    curve = LatencyModel.from_samples(counts, typical)
    return LatencyModel(
        tokens=curve.tokens,
        ms=curve.ms,
        context_ms=float(slopes[0]),
        row_ms=float(slopes[1]),
        buckets=buckets,
    )


def _slopes(features: Float64, knot: NDArray[np.intp], ms: Float64) -> Float64:
    """The two slopes, not negative: [context, rows]. Features [samples, 2], knot [samples]."""
    knots = (knot[:, None] == np.arange(knot.max() + 1)).astype(np.float64)
    slopes = np.zeros(2)
    free = [index for index in range(2) if np.ptp(features[:, index]) > 0.0]
    while free:
        found = _quantile_regression(np.column_stack([knots, features[:, free]]), ms)[-len(free) :]
        if (found >= 0.0).all():
            slopes[free] = found
            break
        free.pop(int(np.argmin(found)))
    return slopes


def _quantile_regression(design: Float64, ms: Float64) -> Float64:
    """Coefficients by iteratively reweighted least squares on relative errors."""
    design, ones = design / ms[:, None], np.ones(len(ms))
    weights = ones
    for _ in range(_ROUNDS):
        root = np.sqrt(weights)
        coefficients = np.linalg.lstsq(design * root[:, None], ones * root)[0].astype(np.float64)
        errors = 1.0 - design @ coefficients
        weights = np.where(errors > 0.0, _QUANTILE, 1.0 - _QUANTILE) / np.maximum(np.abs(errors), 1e-3)
    return coefficients
