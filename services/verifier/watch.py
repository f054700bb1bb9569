"""Watches the draft and decides when verification goes on without it: full verification mode. Pure.

Three signs that speculation does harm, each over recent evidence only:

- **collapse**: of what the draft itself promised nearly nothing is accepted: a broken or foreign draft;
- **drift**: what calibration expects is off for good. The residual, accepted − expected tokens per tree, has mean
  zero whatever the mix of requests while calibration holds. An alarm of Page and Hinkley's test makes trees
  shallow while calibration learns anew, old labels fading soon; speculation ends when, after that, ADWIN has seen
  the mean move as well and it is still off;
- **prediction**: forward passes take something else than predicted, so that nodes are bought at wrong prices.

What was ended is tried again after a pause, which doubles with each trial that fails. Speculation ends and begins
at most three times a minute.
"""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass
from enum import StrEnum

from river.drift import ADWIN, PageHinkley

COLLAPSE_TREES = 24  # that a collapse is seen in
COLLAPSE_PROMISED = 6.0  # tokens that the draft must have promised in them
COLLAPSE_SHARE = 0.2  # of the promise; less is a collapse
DRIFT_THRESHOLD = 0.5  # of Page and Hinkley's sum of residuals; the default of 50 is blind for rates
DRIFT_TOLERANCE = 0.05  # tokens per tree that are no drift
STILL_OFF = 0.1  # tokens per tree by which the residual must be off after the alarm
CAUTIOUS_LESSONS = 8  # that calibration has to come right in
CAUTIOUS_DEPTH = 2
PREDICTIONS = 64
PREDICTION_OFF, PREDICTION_FINE = 1.0, 0.5  # median relative error that ends speculation, and that allows it again
DWELL_MS = 20_000.0  # between two switches: three a minute
FIRST_PAUSE_MS, LONGEST_PAUSE_MS = DWELL_MS, 300_000.0
TRIAL_TREES = 48  # that a trial has to last


class State(StrEnum):
    """Of one verifier's speculation."""

    FREE = "free"
    CAUTIOUS = "cautious"  # shallow trees after an alarm
    ENDED = "ended"
    TRIAL = "trial"  # shallow trees after a pause


class Reason(StrEnum):
    """Why it is not FREE."""

    COLLAPSE = "acceptance_collapse"
    DRIFT = "calibration_drift"
    PREDICTION = "latency_prediction"


@dataclass(slots=True, eq=False)
class Evidence:
    """What has been seen of one draft since the last change of state."""

    trees: deque[tuple[float, int]]  # tokens promised by the draft, and accepted
    residuals: deque[float]  # of the last lessons, tokens per tree
    alarm: PageHinkley
    confirmation: ADWIN
    num_trees: int = 0
    num_lessons: int = 0
    is_alarmed: bool = False
    is_confirmed: bool = False

    @classmethod
    def none(cls) -> Evidence:
        """A new start."""
        return cls(
            deque(maxlen=COLLAPSE_TREES),
            deque(maxlen=CAUTIOUS_LESSONS),
            PageHinkley(min_instances=CAUTIOUS_LESSONS, threshold=DRIFT_THRESHOLD, delta=DRIFT_TOLERANCE),
            ADWIN(clock=1, min_window_length=2, grace_period=4),
        )

    @property
    def has_collapsed(self) -> bool:
        promised = sum(tokens for tokens, _ in self.trees)
        accepted = sum(tokens for _, tokens in self.trees)
        is_enough = len(self.trees) == COLLAPSE_TREES and promised >= COLLAPSE_PROMISED
        return is_enough and accepted < COLLAPSE_SHARE * promised

    @property
    def is_still_off(self) -> bool:
        return abs(statistics.fmean(self.residuals)) > STILL_OFF if self.residuals else False


class Watch:
    """One verifier's; what it saw of one drafter is forgotten with `start_over`."""

    def __init__(self) -> None:
        self.state = State.FREE
        self.reason: Reason | None = None
        self.num_switches = 0
        self._seen = Evidence.none()
        self._errors: deque[float] = deque(maxlen=PREDICTIONS)
        self._pause_ms = FIRST_PAUSE_MS
        self._since_ms = float("-inf")  # the last end or beginning of speculation

    @property
    def allows(self) -> bool:
        """Whether trees are wanted at all."""
        return self.state is not State.ENDED

    @property
    def max_depth(self) -> int | None:
        """Levels of a tree at most; None: as many as the selector says."""
        return CAUTIOUS_DEPTH if self.state in (State.CAUTIOUS, State.TRIAL) else None

    @property
    def doubts(self) -> bool:
        """Whether what calibration has learned should give way to what comes in."""
        return self.state is State.CAUTIOUS

    def start_over(self) -> None:
        """Another drafter: what was seen speaks of the old one."""
        self._seen = Evidence.none()
        if self.reason is not Reason.PREDICTION:
            self._pause_ms = FIRST_PAUSE_MS
            self.state, self.reason = State.FREE, None

    # -- evidence ---------------------------------------------------------------------------------------------
    def verified(self, promised: float, accepted: int) -> None:
        """One tree: the tokens that its draft promised, Σ f(v), and that were accepted."""
        self._seen.trees.append((promised, accepted))
        self._seen.num_trees += 1

    def learned(self, num_trees: int, expected: float, accepted: int) -> None:
        """One lesson: tokens that calibration expected of `num_trees` trees, and that were accepted."""
        if not num_trees:
            return
        seen, residual = self._seen, (accepted - expected) / num_trees
        seen.alarm.update(residual)
        seen.confirmation.update(residual)
        seen.is_alarmed |= seen.alarm.drift_detected
        seen.is_confirmed |= seen.confirmation.drift_detected
        seen.residuals.append(residual)
        seen.num_lessons += 1

    def predicted(self, error: float) -> None:
        """A forward pass took `error` (relative, absolute value) more or less than was predicted."""
        self._errors.append(error)

    # -- the decision -----------------------------------------------------------------------------------------
    def turn(self, now_ms: float) -> bool:
        """Once an iteration, by a monotonic clock; whether speculation ended or began just now."""
        if self.state is State.ENDED:
            is_over = now_ms - self._since_ms >= self._pause_ms
            if is_over and (self.reason is not Reason.PREDICTION or self._error <= PREDICTION_FINE):
                self._switch(State.TRIAL, self.reason, now_ms)
                return True
            return False
        objection = self._objection()
        if objection is not None and now_ms - self._since_ms >= DWELL_MS:
            if self.state is State.TRIAL:
                self._pause_ms = min(2 * self._pause_ms, LONGEST_PAUSE_MS)
            self._switch(State.ENDED, objection, now_ms)
            return True
        if objection is None:
            self._relax()
        return False

    def _objection(self) -> Reason | None:
        seen = self._seen
        if seen.has_collapsed:
            return Reason.COLLAPSE
        has_learned = self.state is State.CAUTIOUS and seen.num_lessons >= CAUTIOUS_LESSONS
        if has_learned and seen.is_confirmed and seen.is_still_off:
            return Reason.DRIFT
        if len(self._errors) == PREDICTIONS and self._error > PREDICTION_OFF:
            return Reason.PREDICTION
        return None

    def _relax(self) -> None:
        """An alarm makes cautious; evidence without objection makes free again."""
        seen = self._seen
        if self.state is State.FREE and seen.is_alarmed:
            self.state, self.reason = State.CAUTIOUS, Reason.DRIFT
            seen.num_lessons = 0
        elif self.state is State.CAUTIOUS and seen.num_lessons >= CAUTIOUS_LESSONS and not seen.is_still_off:
            self.state, self.reason = State.FREE, None
            self._seen = Evidence.none()
        elif self.state is State.TRIAL and seen.num_trees >= TRIAL_TREES:
            self.state, self.reason = State.FREE, None
            self._pause_ms = FIRST_PAUSE_MS

    @property
    def _error(self) -> float:
        return statistics.median(self._errors) if self._errors else 0.0

    def _switch(self, state: State, reason: Reason | None, now_ms: float) -> None:
        self.state, self.reason, self._since_ms = state, reason, now_ms
        self._seen = Evidence.none()
        self.num_switches += 1
