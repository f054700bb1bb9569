"""What a report must say against itself: sizes of samples, what was not measured, what disturbs it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from bench.proof.intervals import LEAST_RUNS
from bench.proof.pairs import has_same_seeds
from bench.proof.sides import Facts
from bench.replay.recording import Recording
from bench.simulator.prices import Prices

FEW = 30  # requests of a class, below which an attainment is little more than a guess


def stated(facts: Facts, ours: Recording, theirs: Recording | None, prices: Prices | None) -> Facts:
    """The same facts with their limits."""
    return replace(facts, limits=[*_of_comparison(facts, ours, theirs), *general(facts, prices)])


def _of_comparison(facts: Facts, ours: Recording, theirs: Recording | None) -> Iterator[str]:
    if theirs is not None:
        for field, word in (("trace", "traces"), ("model", "models"), ("temperature", "temperatures")):
            if getattr(ours, field) != getattr(theirs, field):
                yield f"The two replays have different {word}: not all that differs comes from speculation."
        if not facts.paired:
            yield (
                f"The two replays have different {_unlike(ours, theirs)}: their runs are no pairs, so a "
                "difference is known no better than both sides are."
            )
    fewest = min(len(side.runs) for side in (ours, theirs) if side is not None)
    if fewest < LEAST_RUNS:
        yield (
            f"{'One run' if fewest == 1 else f'{fewest} runs'} only: intervals come from drawing requests "
            "anew, and do not know what the machine did to all requests of a run. Tokens per second have none: "
            "a run's length is noise that so few runs do not show. Repeat the replay with at least "
            f"{LEAST_RUNS} seeds."
        )
    for one in facts.classes if fewest >= LEAST_RUNS else ():
        sides = [one.attainment.our_runs, *([one.attainment.their_runs] if facts.has_baseline else [])]
        known = min(sum(run is not None for run in side) for side in sides)
        if known < LEAST_RUNS:
            yield f"Class {one.name} had requests in {known} of the runs: that is too few for its intervals too."


def _unlike(ours: Recording, theirs: Recording) -> str:
    """What keeps their runs from being pairs."""
    if len(ours.runs) != len(theirs.runs):
        return f"numbers of runs ({len(ours.runs)} and {len(theirs.runs)})"
    if not has_same_seeds(ours, theirs):
        mine, others = (", ".join(str(run.seed) for run in side.runs) for side in (ours, theirs))
        return f"seeds ({mine} and {others})"
    return "traces" if ours.trace != theirs.trace else "numbers of requests"


def general(facts: Facts, prices: Prices | None) -> Iterator[str]:
    """Of every source."""
    if not facts.has_baseline and not facts.arms:
        yield "There is no baseline without speculation: nothing can be said about what it gains."
    for one in facts.classes:
        if one.requests < FEW:
            yield f"Class {one.name} had {one.requests} requests with a target; that few tell little."
    failed, others = facts.failed
    if failed or others:
        beside = "" if others is None else f", {others} without speculation"
        yield f"{failed} requests failed{beside}; they count as missed."
    if facts.work.target_s is None:
        yield "The services' own figures were not read (--metrics): machine time and draft quality are unknown."
    else:
        yield (
            "Machine time is the time that target, drafter and selector took for their work by the clock; other "
            "work on the same machine lengthens it."
        )
    if facts.tenants:
        yield (
            "Tenants bear machine time and cost by their tokens, prompt and output. A tight target costs more "
            "than that, and nobody measures how much."
        )
    if prices is None:
        yield "No prices were given, so there is nothing about money."
    else:
        yield (
            "Gains come from targets kept, at the given prices, and from this traffic, which is taken to go on "
            "round the clock. That a faster server could take more of it on the same machine is not counted."
        )
        yield "Power, people and the time of the introduction are in it only as far as the prices have them."
