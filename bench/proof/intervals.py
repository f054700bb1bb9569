"""Ratios of sums over requests, with 95 % intervals, for one system and for the difference of two.

Of three runs or more by Student's t over the runs, which also has what the machine did to each of them; a
difference of runs that are no pairs by Welch's t. Of fewer by a bootstrap over the requests: each run's requests
are drawn anew, with replacement, from a fixed seed. It knows nothing of what all requests of a run share, so it is
rather too narrow. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.report import Estimate, paired_difference, unpaired_difference

DRAWS = 2_000
SEED = 0
LEAST_RUNS = 3  # Student's t of two runs is too wide to tell anything

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """A value and the 95 % interval around it; None for what is not known."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    is_cut: bool = field(default=False, compare=False, kw_only=True)  # it would go on where the figure cannot

    @classmethod
    def of(cls, estimate: Estimate) -> Interval:
        if estimate.mean is None or estimate.ci95 is None:
            return cls(estimate.mean)
        return cls(estimate.mean, estimate.mean - estimate.ci95, estimate.mean + estimate.ci95)

    @property
    def is_above(self) -> bool:
        """The whole interval is above 0."""
        return self.low is not None and self.low > 0

    @property
    def is_below(self) -> bool:
        return self.high is not None and self.high < 0

    def scaled(self, factor: float) -> Interval:
        """Of a positive factor."""
        return Interval(*(None if one is None else factor * one for one in (self.value, self.low, self.high)))

    def within(self, low: float, high: float) -> Interval:
        """Cut to what the figure can be: Student's t knows no limits."""
        ends = [None if end is None else min(max(end, low), high) for end in (self.low, self.high)]
        return Interval(self.value, *ends, is_cut=ends != [self.low, self.high])

    @property
    def turned(self) -> Interval:
        """Of the figure with the other sign."""
        return Interval(*(None if one is None else -one for one in (self.value, self.high, self.low)))

    def json(self) -> dict[str, Any]:
        """To six decimals."""
        names = ("value", "low", "high")
        return {name: None if (one := getattr(self, name)) is None else round(one, 6) for name in names}


@dataclass(frozen=True, slots=True)
class Ratio:
    """For each run two arrays over its requests: what is summed above the line, and what below."""

    above: Sequence[Floats]
    below: Sequence[Floats]

    def of_runs(self) -> list[float | None]:
        """None where there is nothing below the line."""
        sums = zip(self.above, self.below, strict=True)
        return [float(above.sum() / below.sum()) if below.sum() > 0 else None for above, below in sums]

    @property
    def value(self) -> float | None:
        """Of all runs together."""
        below = sum(float(one.sum()) for one in self.below)
        return sum(float(one.sum()) for one in self.above) / below if below > 0 else None

    def drawn(self, weights: Sequence[Floats]) -> Floats:
        """One ratio for each draw; NaN where there is nothing below the line."""
        above, below = (
            sum(drawn @ values for drawn, values in zip(weights, side, strict=True))
            for side in (self.above, self.below)
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(above / below)


def draws(sizes: Sequence[int], seed: int = SEED, count: int = DRAWS) -> list[Floats]:
    """For each run how often each of its requests is drawn, [count, requests]."""
    chance = np.random.default_rng(seed)
    return [
        chance.multinomial(size, np.full(size, 1 / size), size=count).astype(float)
        if size
        else np.zeros((count, 0))
        for size in sizes
    ]


def interval(ratio: Ratio) -> Interval:
    """Of one system."""
    known = _known(ratio.of_runs())
    if len(known) >= LEAST_RUNS:
        return Interval.of(Estimate.of(known))
    return _between(ratio.value, ratio.drawn(draws([len(one) for one in ratio.above])))


def difference(ours: Ratio, theirs: Ratio, *, paired: bool) -> Interval:
    """Ours less theirs. ``paired``: the runs of both are pairs of the same work (bench/proof/pairs.py)."""
    over_runs = of_runs_apart(ours.of_runs(), theirs.of_runs(), paired=paired)
    if over_runs.low is not None:
        return over_runs
    if ours.value is None or theirs.value is None:
        return Interval()
    sizes, others = ([len(one) for one in side.above] for side in (ours, theirs))
    weights = draws(sizes)
    other_weights = weights if paired and sizes == others else draws(others, SEED + 1)
    return _between(ours.value - theirs.value, ours.drawn(weights) - theirs.drawn(other_weights))


def of_runs_apart(ours: Sequence[float | None], theirs: Sequence[float | None], *, paired: bool) -> Interval:
    """Ours less theirs, of figures that there is one of for each run; an interval from three runs a side on."""
    mine, others = _both_known(ours, theirs) if paired else (_known(ours), _known(theirs))
    if min(len(mine), len(others)) >= LEAST_RUNS:
        return Interval.of((paired_difference if paired else unpaired_difference)(mine, others))
    if not mine or not others:
        return Interval()
    return Interval(float(np.mean(mine) - np.mean(others)))


def _known(values: Sequence[float | None]) -> list[float]:
    return [one for one in values if one is not None]


def _both_known(ours: Sequence[float | None], theirs: Sequence[float | None]) -> tuple[list[float], list[float]]:
    """Of pairs, those that have both."""
    pairs = [
        (one, other) for one, other in zip(ours, theirs, strict=True) if one is not None and other is not None
    ]
    return [one for one, _ in pairs], [other for _, other in pairs]


def _between(value: float | None, drawn: Floats) -> Interval:
    known = drawn[np.isfinite(drawn)]
    if value is None or not known.size:
        return Interval(value)
    low, high = np.percentile(known, (2.5, 97.5))
    return Interval(value, float(low), float(high))


def of_share(met: float, total: float) -> Interval:
    """Percent, by Wilson: of counts whose requests are not known one by one."""
    if total <= 0:
        return Interval()
    z2, share = _Z95**2, met / total
    middle = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = _Z95 * float(np.sqrt(share * (1 - share) / total + z2 / (4 * total**2))) / (1 + z2 / total)
    return Interval(100 * share, 100 * (middle - half), 100 * (middle + half))


def of_shares_apart(ours: Interval, theirs: Interval) -> Interval:
    """Difference of two such shares, by Newcombe."""
    if None in (ours.value, theirs.value):
        return Interval()
    one, other = (np.array([side.value, side.low, side.high], dtype=float) for side in (ours, theirs))
    gap = one[0] - other[0]
    down = np.hypot(one[0] - one[1], other[2] - other[0])
    up = np.hypot(one[2] - one[0], other[0] - other[1])
    return Interval(float(gap), float(gap - down), float(gap + up))


_Z95 = 1.959964
