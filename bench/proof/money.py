"""What each tenant's tokens took of the machine, cost and earned, on both sides of a report. Pure.

Costs, earnings and payback are those of bench/simulator/economics.py; here they come from recorded replays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from bench.proof.intervals import LEAST_RUNS, Interval, Ratio, difference, of_runs_apart
from bench.proof.kept import attainment
from bench.proof.sides import Compared, TenantFigures
from bench.replay.recording import RecordedRun, Recording
from bench.report import Estimate, Outcome
from bench.simulator.economics import HOUR_MS, LEAST_GAIN, Account, Statement, earnings, statements
from bench.simulator.prices import Prices
from bench.simulator.tenancy import Served

Runs = Sequence[Sequence[Served]]


def tenants(
    ours: Recording, theirs: Recording | None, prices: Prices | None, *, paired: bool
) -> list[TenantFigures]:
    """Of every tenant that asked, and last of all together. ``prices`` must know each of them."""
    names = sorted({one.tenant for run in ours.runs for one in run.requests})
    priced = _statements(ours, theirs, prices) if prices is not None else {}
    return [_tenant(name, ours, theirs, prices, priced.get(name), paired=paired) for name in (*names, None)]


def _statements(ours: Recording, theirs: Recording | None, prices: Prices) -> dict[str | None, Statement]:
    return statements(ours.served, None if theirs is None else theirs.served, prices)


def _tenant(
    name: str | None,
    ours: Recording,
    theirs: Recording | None,
    prices: Prices | None,
    statement: Statement | None,
    *,
    paired: bool,
) -> TenantFigures:
    mine, others = of_tenant(ours.served, name), None if theirs is None else of_tenant(theirs.served, name)
    gpu_s = [list(gpu_s_per_1000(side, name, prices)) for side in (ours, theirs) if side is not None]
    gain = _gain(name, statement, ours, theirs, prices, paired=paired)
    return TenantFigures(
        name=name,
        requests=sum(map(len, mine)),
        tokens=sum(one.outcome.tokens for run in mine for one in run),
        attainment=attainment(_outcomes(mine), None if others is None else _outcomes(others), paired=paired),
        gpu_s_per_1000=over_runs(gpu_s[0], gpu_s[1] if theirs else None, paired=paired),
        cost_per_1000=None if statement is None else _costs(statement, "tokens_per_s"),
        cost_per_1000_goodput=None if statement is None else _costs(statement, "goodput_tokens_per_s"),
        gain_per_hour=gain,
        introduction=None if statement is None else statement.introduction,
        payback_days=None if statement is None or gain is None else payback_days(statement.introduction, gain),
    )


def of_tenant(runs: Runs, name: str | None) -> list[list[Served]]:
    """Its requests, run by run; all for None."""
    return [[one for one in run if name in (None, one.tenant)] for run in runs]


def _outcomes(runs: Runs) -> list[list[Outcome]]:
    return [[one.outcome for one in run] for run in runs]


def over_runs(ours: Sequence[float | None], theirs: Sequence[float | None] | None, *, paired: bool) -> Compared:
    """Figures that there is one of for each run: an interval from three runs on."""
    if theirs is None:
        return Compared(ours=_mean(ours))
    apart = of_runs_apart(ours, theirs, paired=paired)
    return Compared(ours=_mean(ours), theirs=_mean(theirs), difference=apart)


def _mean(values: Sequence[float | None]) -> Interval:
    known = [one for one in values if one is not None]
    estimate = Estimate.of(known)
    return Interval.of(estimate if len(known) >= LEAST_RUNS else Estimate(estimate.mean, None))


def gpu_s_per_1000(recording: Recording, name: str | None, prices: Prices | None) -> Iterator[float | None]:
    """Run by run, for a thousand output tokens of a tenant: it bears the share of the tokens served to it."""
    for run in recording.runs:
        seconds = gpu_seconds(run, prices)
        mine, everyone = (of_tenant([[one.served for one in run.requests]], who)[0] for who in (name, None))
        tokens = sum(one.outcome.tokens for one in mine)
        if seconds is None or not tokens:
            yield None
            continue
        share = sum(one.tokens for one in mine) / sum(one.tokens for one in everyone)
        yield 1_000 * seconds * share / tokens


def gpu_seconds(run: RecordedRun, prices: Prices | None) -> float | None:
    """Of a run: the target's time on its GPUs and the drafter's on its own, or on one of the target's."""
    values = run.samples[-1].values if run.samples else {}
    if not values.get("target_s"):
        return None
    gpus, drafters = (1, 0) if prices is None else (prices.gpus, prices.drafter_gpus)
    return gpus * values["target_s"] + max(1, drafters) * values.get("draft_s", 0.0)


def _costs(statement: Statement, tokens: str) -> Compared:
    """Of a thousand of the account's ``tokens``, by the machine's whole cost, busy or idle, of all runs together.

    A run without goodput has cost as much as the others.
    """
    ours = _per_1000(statement.accounts, tokens)
    theirs = None if statement.baseline is None else _per_1000(statement.baseline, tokens)
    apart = None if ours is None or theirs is None else ours - theirs
    return Compared(ours=Interval(ours), theirs=Interval(theirs), difference=Interval(apart))


def _per_1000(accounts: Sequence[Account], tokens: str) -> float | None:
    thousands_per_hour = 3.6 * sum(float(getattr(one, tokens)) for one in accounts)
    return sum(one.cost_per_hour for one in accounts) / thousands_per_hour if thousands_per_hour else None


def _gain(
    name: str | None,
    statement: Statement | None,
    ours: Recording,
    theirs: Recording | None,
    prices: Prices | None,
    *,
    paired: bool,
) -> Interval | None:
    """Margin above the baseline's, per hour. Of too few runs its interval is that of the earnings, by requests."""
    if statement is None or statement.baseline is None or theirs is None or prices is None:
        return None
    mine, others = ([one.margin_per_hour for one in side] for side in (statement.accounts, statement.baseline))
    gain = of_runs_apart(mine, others, paired=paired)
    if gain.low is not None or gain.value is None:
        return gain
    earned = difference(*(_earned(name, side.served, prices) for side in (ours, theirs)), paired=paired)
    if earned.value is None or earned.low is None or earned.high is None:
        return gain
    return Interval(gain.value, gain.value + earned.low - earned.value, gain.value + earned.high - earned.value)


def _earned(name: str | None, runs: Runs, prices: Prices) -> Ratio:
    """By a tenant in an hour of the traffic of all."""
    mine = of_tenant(runs, name)
    return Ratio(
        [np.array([earnings(one, prices.tenants[one.tenant]) for one in run]) for run in mine],
        [np.full(len(run), _hours(whole) / max(1, len(run))) for run, whole in zip(mine, runs, strict=True)],
    )


def payback_days(introduction: float | None, gain: Interval) -> Interval | None:
    """Until the gain has earned the introduction, soonest and latest; each None where that gain is none.

    None where there is no introduction.
    """
    if introduction is None:
        return None
    ends = (gain.value, gain.high, gain.low)
    return Interval(*(introduction / end / 24 if end is not None and end >= LEAST_GAIN else None for end in ends))


def _hours(run: Sequence[Served]) -> float:
    arrivals = [one.outcome.arrival_ms for one in run]
    return (max(arrivals) - min(arrivals)) / HOUR_MS
