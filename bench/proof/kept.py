"""Attainment on both sides of a report, in percent. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bench.proof.intervals import LEAST_RUNS, Interval, Ratio, difference, interval, of_share, of_shares_apart
from bench.proof.sides import Compared
from bench.report import Outcome

Runs = Sequence[Sequence[Outcome]]


def attainment(mine: Runs, others: Runs | None, *, paired: bool) -> Compared:
    """Of the requests with a target. By counts alone (Wilson, Newcombe) of fewer than three runs, and where all
    runs have the same share: 0 or 100 % of what was seen is not certain for what was not."""
    ours = _share(mine)
    if others is None:
        return Compared(ours=ours, our_runs=attained(mine).of_runs())
    theirs = _share(others)
    is_repeated = min(len(mine), len(others)) >= LEAST_RUNS
    apart = difference(attained(mine), attained(others), paired=paired) if is_repeated else Interval()
    apart = apart.within(-100.0, 100.0)
    if apart.low == apart.high:
        apart = of_shares_apart(ours, theirs)
    return Compared(
        ours=ours,
        theirs=theirs,
        difference=apart,
        our_runs=attained(mine).of_runs(),
        their_runs=attained(others).of_runs(),
    )


def _share(runs: Runs) -> Interval:
    if len(runs) >= LEAST_RUNS:
        found = interval(attained(runs)).within(0.0, 100.0)
        if found.low != found.high:
            return found
    judged = [one.attained for run in runs for one in run if one.has_target]
    return of_share(sum(judged), len(judged))


def attained(runs: Runs) -> Ratio:
    """Run by run."""
    return Ratio(
        [np.array([100.0 * one.attained for one in run]) for run in runs],
        [np.array([float(one.has_target) for one in run]) for run in runs],
    )
