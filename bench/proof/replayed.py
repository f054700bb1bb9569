"""The figures of a report from recorded replays, with speculation and without where there is one. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from bench.proof import limits
from bench.proof.intervals import LEAST_RUNS, Floats, Interval, Ratio, interval, of_runs_apart
from bench.proof.kept import attainment
from bench.proof.money import tenants
from bench.proof.pairs import are_pairs, in_step
from bench.proof.sides import ClassFigures, Compared, Facts, Latency, RunFigures, Work
from bench.proof.timeline import arms_of, joined
from bench.replay.recording import RecordedRun, Recording
from bench.report import Outcome, duration_ms, failures, percentiles
from bench.report import attainment as attained_percent
from bench.simulator.prices import Prices

Runs = Sequence[Sequence[Outcome]]


def facts(
    ours: Recording, theirs: Recording | None, prices: Prices | None, objectives: Mapping[str, float]
) -> Facts:
    """``objectives`` of classes, 0 to 1. Runs are paired by their seeds, where both have the same."""
    theirs = None if theirs is None else in_step(ours, theirs)
    paired = theirs is not None and are_pairs(ours, theirs)
    sides = [_outcomes(side) for side in (ours, theirs) if side is not None]
    mine, others = sides[0], sides[1] if theirs else None
    names = sorted({one.category for run in mine for one in run if one.has_target})
    samples, events, seams = joined(ours.runs)
    arms, apart = arms_of(ours.runs)
    found = Facts(
        source=_source(ours, theirs),
        made_at=ours.runs[-1].started_at,
        has_baseline=theirs is not None,
        runs=len(ours.runs),
        seconds=sum(duration_ms(run) for run in mine) / 1_000,
        paired=paired,
        total=_class("all", mine, others, None, paired=paired),
        classes=[
            _class(
                name,
                _only(mine, name),
                others and _only(others, name),
                objectives.get(name),
                whole=sides,
                paired=paired,
            )
            for name in names
        ],
        work=work_of(ours),
        baseline_work=None if theirs is None else work_of(theirs),
        tokens_per_pass=interval(_passes(mine)),
        net_saving_per_1000=_net_saving(ours, theirs, paired=paired),
        tenants=tenants(ours, theirs, prices, paired=paired),
        currency=None if prices is None else prices.currency,
        run_by_run=list(_run_by_run(ours, theirs, paired=paired)),
        arms=arms,
        arms_apart=apart,
        samples=samples,
        events=events,
        seams_s=seams,
        failed=(_failed(mine), None if others is None else _failed(others)),
    )
    return limits.stated(found, ours, theirs, prices)


def _source(ours: Recording, theirs: Recording | None) -> dict[str, str]:
    requests = sum(len(run.requests) for run in ours.runs)
    runs = "one replay" if len(ours.runs) == 1 else f"{len(ours.runs)} replays"
    return {
        "workload": ours.trace,
        "requests": f"{requests:,} in {runs} of each side" if theirs else f"{requests:,} in {runs}",
        "model": ours.model,
        "temperature": f"{ours.temperature:g}",
        "seeds": ", ".join(str(run.seed) for run in ours.runs),
    }


def _outcomes(recording: Recording) -> list[list[Outcome]]:
    return [[one.outcome for one in run.requests] for run in recording.runs]


def _only(runs: Runs, category: str) -> list[list[Outcome]]:
    """The requests of one class, run by run."""
    return [[one for one in run if one.category == category] for run in runs]


def _class(
    name: str,
    mine: Runs,
    others: Runs | None,
    objective: float | None,
    whole: Sequence[Runs] = (),
    *,
    paired: bool,
) -> ClassFigures:
    """``whole``: both sides with all their classes, where ``mine`` and ``others`` are of one."""
    mine_whole = whole[0] if whole else mine
    return ClassFigures(
        name=name,
        requests=sum(one.has_target for run in mine for one in run),
        attainment=attainment(mine, others, paired=paired),
        goodput=_rates(
            goodput(mine, mine_whole),
            None if others is None else goodput(others, whole[-1] if whole else others),
            paired=paired,
        ),
        objective=None if objective is None else 100 * objective,
        tpot_ms=_latency(mine, others, lambda one: one.tpot_ms),
        ttft_ms=_latency(mine, others, lambda one: one.ttft_ms),
    )


def _latency(mine: Runs, others: Runs | None, time: Callable[[Outcome], float | None]) -> Latency:
    ours, theirs = (percentiles(time(one) for run in side for one in run) for side in (mine, others or ()))
    return Latency(ours=ours, theirs=theirs)


def _rates(ours: Ratio, theirs: Ratio | None, *, paired: bool) -> Compared:
    """Both sides, neither below 0, and their difference; with intervals over runs only.

    Drawing requests anew leaves a run as long as it was, so where both sides have the same tokens it would take
    what the machine did to the runs' lengths for a certain difference.
    """
    mine = _over_runs(ours)
    if theirs is None:
        return Compared(ours=mine, our_runs=ours.of_runs())
    others = _over_runs(theirs)
    apart = of_runs_apart(ours.of_runs(), theirs.of_runs(), paired=paired)
    if apart.low is None and mine.value is not None and others.value is not None:
        apart = Interval(mine.value - others.value)
    return Compared(
        ours=mine,
        theirs=others,
        difference=apart,
        our_runs=ours.of_runs(),
        their_runs=theirs.of_runs(),
    )


def _over_runs(ratio: Ratio) -> Interval:
    known = [one for one in ratio.of_runs() if one is not None]
    return interval(ratio).within(0.0, math.inf) if len(known) >= LEAST_RUNS else Interval(ratio.value)


def goodput(runs: Runs, whole: Runs) -> Ratio:
    """Tokens per second over the time of the whole run, of which ``runs`` may be a part."""
    spans = [duration_ms(run) / 1_000 for run in whole]
    return Ratio(
        [_each(run, lambda one: one.tokens * one.attained) for run in runs],
        [np.full(len(run), span / max(1, len(run))) for run, span in zip(runs, spans, strict=True)],
    )


def _passes(runs: Runs) -> Ratio:
    """Tokens after the first for each pass of the target that a request took part in."""
    return Ratio(
        [_each(run, lambda one: max(0, one.tokens - 1)) for run in runs],
        [_each(run, passes) for run in runs],
    )


def passes(one: Outcome) -> float:
    """Of the target, after the prompt: every accepted token has saved one."""
    return max(0, one.tokens - 1 - one.num_accepted, one.num_steps)


def _each(run: Sequence[Outcome], figure: Callable[[Outcome], float]) -> Floats:
    return np.array([figure(one) for one in run], dtype=float)


def work_of(recording: Recording) -> Work:
    """Of all runs."""
    outcomes = [one for run in _outcomes(recording) for one in run]
    seconds = [computed(run) for run in recording.runs]
    known = [one for one in seconds if one is not None]
    target, draft, select = (sum(one[part] for one in known) for part in range(3)) if known else (None, None, None)
    return Work(
        tokens=sum(one.tokens for one in outcomes),
        after_first=sum(max(0, one.tokens - 1) for one in outcomes),
        passes=sum(passes(one) for one in outcomes),
        target_s=target,
        draft_s=draft,
        select_s=select,
    )


def computed(run: RecordedRun) -> tuple[float, float, float] | None:
    """Seconds of target, drafter and selector; None where the replay could not read the services' figures."""
    values = run.samples[-1].values if run.samples else {}
    if not values.get("target_s"):
        return None
    return values["target_s"], values.get("draft_s", 0.0), values.get("select_s", 0.0)


def _net_saving(ours: Recording, theirs: Recording | None, *, paired: bool) -> Interval:
    """Machine seconds for a thousand tokens, without speculation less with it and its drafter."""
    if theirs is None:
        return Interval()
    mine, others = ([_machine_s(run) for run in side.runs] for side in (ours, theirs))
    return of_runs_apart(others, mine, paired=paired)


def _machine_s(run: RecordedRun | None) -> float | None:
    """For a thousand tokens."""
    if run is None:
        return None
    seconds, tokens = computed(run), sum(one.tokens for one in run.requests)
    return None if seconds is None or not tokens else 1_000 * sum(seconds) / tokens


def _run_by_run(ours: Recording, theirs: Recording | None, *, paired: bool) -> Iterator[RunFigures]:
    """The runs of our side, each beside its pair; runs that are none after each other."""
    others = [] if theirs is None else list(theirs.runs)
    both: list[tuple[RecordedRun | None, RecordedRun | None]] = (
        list(zip(ours.runs, others, strict=True))
        if paired
        else [*((run, None) for run in ours.runs), *((None, run) for run in others)]
    )
    for run, beside in both:
        yield RunFigures(
            seed=next(one.seed for one in (run, beside) if one is not None),
            ours=_attained_percent(run),
            theirs=_attained_percent(beside),
            machine_s=_machine_s(run),
            their_machine_s=_machine_s(beside),
        )


def _attained_percent(run: RecordedRun | None) -> float | None:
    return None if run is None else attained_percent(one.outcome for one in run.requests)


def _failed(runs: Runs) -> int:
    return sum(sum(failures(run).values()) for run in runs)
