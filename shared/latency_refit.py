"""A latency model kept true while it is used: recursive least squares over the steps that really ran. Pure."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.latency import LatencyModel

MEMORY = 20  # steps: each one weighs 1/e of its first weight after so many more
QUICK_MEMORY = 6  # steps, while the model is off
OFF = 0.15  # relative error, in the median of the last SURPRISES steps, with which the model counts as off
RIDGE = 0.02  # pull towards the profile, as a share of what the steps say
LEAST_RIDGE = 1e-9
SURPRISES = 7  # steps whose median error tells a change from a stall: a stall is one of them
MOST_MOVED = 0.35  # typical errors by which a step may move its own prediction
LEAST_ERROR = 0.03  # what is typical at least, of relative errors
MOST_TIMES = 100.0  # a step as many times slower than the profile counts as one just so slow
LEAST_SCALE = 0.05
MOST_TOKENS = 1 << 40  # of context: a bound for arithmetic alone

Float64 = NDArray[np.float64]


class Operation(NamedTuple):
    """One forward pass: new tokens n, tokens of KV read S, rows."""

    tokens: int
    context_tokens: int
    rows: int


class Refit:
    """The profile with four coefficients that follow the measured steps: curve's scale, context, rows, offset.

    Least squares on errors relative to the profile, with exponential forgetting and a ridge towards the profile. A
    step may move its prediction by a share of the typical error only, so that a stall moves little; once most
    recent steps are as far off, it is the machine that has changed: they count, and older ones fade sooner.
    """

    def __init__(self, profile: LatencyModel) -> None:
        self.profile = profile
        self._prior = np.array([1.0, profile.context_ms, profile.row_ms, 0.0])
        self._coefficients = self._prior
        self._squares = np.zeros((4, 4))
        self._products = np.zeros(4)
        self._errors: deque[float] = deque([0.0] * SURPRISES, maxlen=SURPRISES)
        self._recent: deque[Operation] = deque(maxlen=MEMORY)

    @property
    def model(self) -> LatencyModel:
        """The model now."""
        scale, context_ms, row_ms, offset_ms = self._coefficients.tolist()
        return self.profile.corrected(scale=scale, context_ms=context_ms, row_ms=row_ms, offset_ms=offset_ms)

    def predict_ms(self, tokens: int, *, context_tokens: int, rows: int) -> float:
        """T of the model now, without building it."""
        return float(self._parts(Operation(tokens, context_tokens, rows)) @ self._coefficients)

    def observe(self, tokens: int, context_tokens: int, rows: int, ms: float) -> None:
        """A forward of `tokens` over `rows` rows that read `context_tokens` of KV took `ms`."""
        if not 0.0 < ms < math.inf:
            return
        operation = Operation(tokens, min(context_tokens, MOST_TOKENS), rows)
        expected_ms = _predict_ms(self.profile, operation)
        parts = self._parts(operation) / expected_ms
        taken = min(ms / expected_ms, MOST_TIMES)
        predicted = float(parts @ self._coefficients)
        weight = self._weight(parts, (taken - predicted) / max(predicted, LEAST_SCALE))
        fade = math.exp(-1.0 / (QUICK_MEMORY if self._is_off() else MEMORY))
        self._squares = fade * self._squares + weight * np.outer(parts, parts)
        self._products = fade * self._products + weight * parts * taken
        self._coefficients = self._solved()
        self._recent.append(operation)

    def differs_from(self, other: LatencyModel) -> float:
        """Largest relative difference between this model's predictions and another's for the recent steps."""
        pairs = [
            (float(self._parts(step) @ self._coefficients), _predict_ms(other, step)) for step in self._recent
        ]
        return max((abs(mine - theirs) / theirs for mine, theirs in pairs), default=0.0)

    def _parts(self, operation: Operation) -> Float64:
        """What each coefficient is multiplied with: [curve(n), S / 1000, rows, 1]."""
        return np.array(
            [
                self.profile.predict_ms(operation.tokens),
                operation.context_tokens / 1e3,
                float(operation.rows),
                1.0,
            ]
        )

    def _weight(self, parts: Float64, error: float) -> float:
        """1, or less where the step would move its own prediction too far.

        With leverage h a step of weight w moves it by error · w·h / (1 + w·h).
        """
        self._errors.append(error)
        typical = max(_median([abs(error) for error in self._errors]), LEAST_ERROR)
        excess = abs(error) - MOST_MOVED * typical
        if excess <= 0.0:
            return 1.0
        left, _ = self._normal()
        leverage = float(parts @ np.linalg.solve(left, parts))
        return min(1.0, MOST_MOVED * typical / (leverage * excess))

    def _is_off(self) -> bool:
        return abs(_median(self._errors)) > OFF

    def _normal(self) -> tuple[Float64, Float64]:
        """Both sides of the normal equations, [4, 4] and [4].

        The ridge is in proportion to how much the steps say about each coefficient, so it knows no units.
        """
        ridge = RIDGE * self._squares.diagonal() + LEAST_RIDGE
        return self._squares + np.diag(ridge), self._products + ridge * self._prior

    def _solved(self) -> Float64:
        """Minimum over coefficients that are not negative, found by fixing those that would be, worst first."""
        left, right = self._normal()
        least = np.array([LEAST_SCALE, 0.0, 0.0, 0.0])
        whole = np.linalg.solve(left, right).astype(np.float64, copy=False)
        if (whole >= least).all():  # as a rule
            return whole
        solved, free = least.copy(), [0, 1, 2, 3]
        while free:
            fixed = [index for index in range(4) if index not in free]
            known = right[free] - left[np.ix_(free, fixed)] @ least[fixed]
            found = np.linalg.solve(left[np.ix_(free, free)], known)
            below = found - least[free]
            if (below >= 0.0).all():
                solved[free] = found
                break
            solved[free] = least[free]
            free.pop(int(np.argmin(below)))
        return solved


def _median(values: Iterable[float]) -> float:
    return sorted(values)[SURPRISES // 2]


def _predict_ms(model: LatencyModel, step: Operation) -> float:
    return model.predict_ms(step.tokens, context_tokens=step.context_tokens, rows=step.rows)
