"""Draft quality over time: what samples of the services' figures come to between one and the next. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from bench.proof.intervals import Interval, of_share, of_shares_apart
from bench.proof.sides import Arm
from bench.replay.recording import Event, RecordedRun, ServerSample
from bench.replay.series import SWITCH
from shared.signals import ARMS

LEAST_TOKENS = 5  # in a window, below which their ratio is chance
NOT_TOLD = "reason not told"
HALF = 0.5  # of the verifiers


@dataclass(frozen=True, slots=True)
class Line:
    """A figure over time; None leaves a gap."""

    name: str
    points: Sequence[tuple[float, float | None]]


@dataclass(frozen=True, slots=True)
class Band:
    """Seconds without speculation, and why."""

    from_s: float
    to_s: float
    reason: str


def joined(runs: Sequence[RecordedRun]) -> tuple[list[ServerSample], list[Event], list[float]]:
    """One run after the other on one clock, counters going on; and where one ends and the next begins."""
    samples: list[ServerSample] = []
    events: list[Event] = []
    seams: list[float] = []
    for run in runs:
        start_s, counted = (samples[-1].at_s, samples[-1].values) if samples else (0.0, {})
        if samples:
            seams.append(start_s)
        samples += [_after(one, start_s, counted) for one in run.samples]
        events += [Event(at_s=start_s + one.at_s, what=one.what) for one in run.events]
    return samples, events, seams


def _after(sample: ServerSample, start_s: float, counted: Mapping[str, float]) -> ServerSample:
    gauges = ("speculative", "calibration_error", "running", "waiting")
    values = {
        name: value + (0.0 if name in gauges else counted.get(name, 0.0)) for name, value in sample.values.items()
    }
    return ServerSample(at_s=start_s + sample.at_s, values=values)


def windowed(samples: Sequence[ServerSample], windows: int) -> list[ServerSample]:
    """About so many of them, evenly spread: closer ones are too close for ratios of their differences."""
    step = max(1, len(samples) // max(1, windows))
    kept = list(samples[::step])
    return kept if not samples or kept[-1] is samples[-1] else [*kept, samples[-1]]


def acceptance(samples: Sequence[ServerSample]) -> Line:
    """Percent of the verified drafted tokens that were accepted, in each window."""
    return Line("accepted, of verified draft tokens", list(_ratios(samples, "accepted", "selected", 100.0)))


def kept_promises(samples: Sequence[ServerSample]) -> Line:
    """Accepted tokens for each that the calibrated probabilities promised; 1 is as promised."""
    return Line("accepted, of those expected", list(_ratios(samples, "realised", "expected", 1.0)))


def calibration(samples: Sequence[ServerSample]) -> Line:
    """The verifiers' own expected calibration error."""
    name = "calibration_error"
    return Line("expected calibration error", [(one.at_s, one.values.get(name)) for one in samples])


def _ratios(
    samples: Sequence[ServerSample], above: str, below: str, factor: float
) -> Iterator[tuple[float, float | None]]:
    for before, after in pairwise(samples):
        top, bottom = (after.values.get(name, 0.0) - before.values.get(name, 0.0) for name in (above, below))
        yield (before.at_s + after.at_s) / 2, factor * top / bottom if bottom >= LEAST_TOKENS else None


def bands(samples: Sequence[ServerSample]) -> list[Band]:
    """Where most verifiers did not speculate. The reason is that of the last switch counted before.

    A verifier counts its switches as they happen and tells its mode a moment later.
    """
    found: list[Band] = []
    open_band: Band | None = None
    reason = NOT_TOLD
    counted: Mapping[str, float] = {}
    for sample in samples:
        reason = _grown(counted, sample.values) or reason
        counted = {**counted, **sample.values}
        is_off = sample.values.get("speculative", 1.0) < HALF
        if open_band is not None:
            open_band = replace(open_band, to_s=sample.at_s)
            if not is_off:
                found.append(open_band)
                open_band = None
        elif is_off:
            open_band = Band(sample.at_s, sample.at_s, reason)
    return found + ([open_band] if open_band is not None else [])


def _grown(before: Mapping[str, float], after: Mapping[str, float]) -> str:
    """The reason of whose switches most were counted in between, "" for none."""
    grown = {
        name.removeprefix(SWITCH): value - before.get(name, 0.0)
        for name, value in after.items()
        if name.startswith(SWITCH)
    }
    likeliest = max(grown, key=lambda name: grown[name], default="")
    return likeliest if grown.get(likeliest, 0.0) > 0 else ""


def arms_of(runs: Sequence[RecordedRun]) -> tuple[list[Arm], Interval]:
    """Of a rollout, if requests of both its arms have finished."""
    last = [run.samples[-1].values for run in runs if run.samples]
    return compared_arms({name: sum(one.get(name, 0.0) for one in last) for name in _ARM_SERIES})


def compared_arms(counted: Mapping[str, float]) -> tuple[list[Arm], Interval]:
    """From the counts by arm; nothing where one arm has none."""
    arms = []
    for name in ARMS:
        met, missed = counted.get(f"{name}_met", 0.0), counted.get(f"{name}_missed", 0.0)
        total = met + missed
        arms.append(Arm(name=name, met=round(met), total=round(total), attainment=of_share(met, total)))
    if not all(arm.total for arm in arms):
        return [], Interval()
    return arms, of_shares_apart(arms[0].attainment, arms[1].attainment)


_ARM_SERIES = tuple(f"{arm}_{word}" for arm in ARMS for word in ("met", "missed"))
