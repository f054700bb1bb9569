"""Which runs of both sides of a report are pairs, of the same work: by their seeds, not by their places. Pure."""

from __future__ import annotations

from bench.replay.recording import RecordedRun, Recording


def in_step(ours: Recording, theirs: Recording) -> Recording:
    """Theirs with its runs in the order of ours where the seeds are the same; else as it is."""
    if not has_same_seeds(ours, theirs):
        return theirs
    left = list(theirs.runs)
    runs = [left.pop(_place(run.seed, left)) for run in ours.runs]
    return theirs.model_copy(update={"runs": runs})


def _place(seed: int, runs: list[RecordedRun]) -> int:
    return next(place for place, run in enumerate(runs) if run.seed == seed)


def are_pairs(ours: Recording, theirs: Recording) -> bool:
    """Whether each run has one beside it, in step, of the same trace, seed and number of requests."""
    mine, others = ([(run.seed, len(run.requests)) for run in side.runs] for side in (ours, theirs))
    return ours.trace == theirs.trace and mine == others


def has_same_seeds(ours: Recording, theirs: Recording) -> bool:
    """Each as often on both sides."""
    mine, others = (sorted(run.seed for run in side.runs) for side in (ours, theirs))
    return mine == others
