"""What is run: fixed sizes and thresholds are chosen on each load's first half, and judged by its second."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from functools import partial

from bench.scaling import choose
from bench.scaling.cell import Delays, Sizing
from bench.scaling.choose import CHART, Candidate, Pair, with_up
from bench.scaling.loads import LOADS, SIZES, Half, half_of, made, varied
from bench.scaling.rules import Rules, read_rules
from bench.scaling.runs import Drawn, Job, Machine, Runner, Setting, setting, told
from bench.scaling.search import thriftiest
from bench.scaling.sizing import Fixed, Scaled, by_cpu, only
from bench.scaling.table import Gpus
from bench.traces import Trace
from bench.workloads import load_trace

CPU, STILL = "HPA on CPU", "fixed"
CHOSEN_ON: Half = "first"
JUDGED_BY: Half = "second"


def bounded(rules: Rules, most: int) -> Rules:
    """With room to scale: minima and maxima are a deployment's own, all else is the chart's."""
    return rules.model_copy(update={"min": 1, "max": most})


def chart_rules(options: argparse.Namespace) -> Pair:
    """Of both services."""
    return Pair(*(bounded(read_rules(name, options.values), options.max) for name in ("verifier", "drafter")))


def load_of(name: str, half: Half, options: argparse.Namespace) -> Trace:
    """One of LOADS, a made one (whose halves are two of a kind), or the user's own."""
    if name == "made":
        return made(options.seconds or 1800.0, options.peak, options.seed + (half == JUDGED_BY))
    trace = half_of(load_trace(options.trace, options.seed), half) if name == "own" else None
    trace = trace or LOADS[name](options.traces, half)
    return trace.head(seconds=options.seconds) if options.seconds else trace


def names_of(options: argparse.Namespace) -> Sequence[str]:
    """The loads to run."""
    if options.trace is not None:
        return ["own"]
    return options.loads or (["made"] if options.traces is None else list(LOADS))


def settings(name: str, half: Half, seeds: int, options: argparse.Namespace, runner: Runner) -> list[Setting]:
    """The load under each seed."""
    trace = load_of(name, half, options)
    machine = Machine(
        hardware=options.hardware,
        system=options.system,
        gpus=Gpus(verifier=options.gpus, drafter=options.drafter_gpus),
        real=options.real,
    )
    return list(runner.map(partial(_setting, name, trace, machine), range(1, seeds + 1)))


def _setting(name: str, trace: Trace, machine: Machine, seed: int) -> Setting:
    return setting(name, varied(trace, seed), machine, seed)


def delays_of(options: argparse.Namespace, start_s: float) -> Delays:
    """With such a start of a verifier."""
    return Delays(verifier_s=start_s, drafter_s=options.start_drafter)


def sized(setting: Setting, delays: Delays, verifiers: int) -> Fixed:
    """So many verifiers with as few drafters as do, on this load."""
    return thriftiest(
        verifiers, lambda fixed: told(Job(setting=setting, sizing=fixed, delays=delays)).line.attained
    )


def cases(fixed: Sequence[Fixed], options: argparse.Namespace) -> Iterator[tuple[str, Sizing, float]]:
    """Name in the table, sizing, seconds of a start: fixed ones, the chart's, other starts, the processor's."""
    rules, first = chart_rules(options), options.first
    usual, *others = options.starts
    for each in fixed:
        yield each.name, each, usual
    yield CHART, rules.scaled(CHART, first), usual
    for start_s in others:
        yield f"the same, a start takes {start_s:g} s", rules.scaled(CHART, first), start_s
    if others:
        patient = Pair(with_up(rules.verifier, round(others[-1])), rules.drafter)
        yield f"and scaleUp waits {others[-1]:g} s", patient.scaled(CHART, first), others[-1]
    for change in options.also:
        yield f"with {change}", rules.changed(change).scaled(CHART, first), usual
    yield CPU, Scaled(CPU, by_cpu(rules.verifier, "cpu"), by_cpu(rules.drafter, "draftCpu"), first), usual
    if options.apart:
        for name in rules.verifier.active:
            yield f"{name} alone", Scaled(CHART, only(rules.verifier, name), rules.drafter, first), usual


def judge(name: str, options: argparse.Namespace, runner: Runner) -> Drawn:
    """Choose fixed sizes on one half, and run everything on the other."""
    [chosen_on] = settings(name, CHOSEN_ON, 1, options, runner)
    sizes = options.sizes or SIZES[name]
    usual = delays_of(options, options.starts[0])
    fixed = list(runner.map(partial(sized, chosen_on, usual), sizes))
    judged = settings(name, JUDGED_BY, options.seeds, options, runner)
    named = list(cases(fixed, options))
    jobs = [
        Job(setting=each, sizing=sizing, delays=delays_of(options, start_s))
        for _, sizing, start_s in named
        for each in judged
    ]
    done = runner.map(told, jobs)
    return Drawn(trace=judged[0].trace, rows={case: [next(done) for _ in judged] for case, _, _ in named})


def weighed(options: argparse.Namespace, runner: Runner) -> list[Candidate]:
    """The chart's thresholds and others, on the half to choose on."""
    named = list(choose.candidates(chart_rules(options), options.choose or list(choose.CANDIDATES)))
    loads = {name: settings(name, CHOSEN_ON, options.seeds, options, runner) for name in names_of(options)}
    delays = delays_of(options, options.starts[0])
    jobs = [
        Job(setting=each, sizing=pair.scaled(name, options.first), delays=delays)
        for name, pair in named
        for group in loads.values()
        for each in group
    ]
    done = runner.map(told, jobs)
    return [
        choose.candidate(name, {load: [next(done).line for _ in group] for load, group in loads.items()})
        for name, _ in named
    ]
