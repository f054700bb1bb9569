"""What the sizings of one load come to: a line each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bench.scaling.result import Result

HEAD = (
    "sizing",
    "attained",
    "TTFT p99",
    "verifiers, mean (most)",
    "each serves",
    "drafters, mean",
    "GPU-hours",
    "against",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpus:
    """Of one replica."""

    verifier: int = 4
    drafter: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Attainment in percent of the requests with a target, times in seconds, means over the run."""

    sizing: str
    attained: float
    by_category: dict[str, float]
    ttft_p99_s: float
    verifiers: float
    most_verifiers: int
    in_service: float  # requests a verifier, those that wait among them
    drafters: float
    gpu_hours: float
    num_moved: int


def line(result: Result, gpus: Gpus) -> Line:
    """Of one run."""
    hours = result.hours
    return Line(
        sizing=result.name,
        attained=_attained(result),
        by_category={
            category: _attained(result, category) for category in sorted({one.category for one in result.outcomes})
        },
        ttft_p99_s=float(np.quantile([one.ttft_ms or 0.0 for one in result.outcomes], 0.99)) / 1e3,
        verifiers=result.verifier_hours / hours,
        most_verifiers=max(sample.verifiers for sample in result.samples),
        in_service=_in_service_hours(result) / result.verifier_hours,
        drafters=result.drafter_hours / hours,
        gpu_hours=gpus.verifier * result.verifier_hours + gpus.drafter * result.drafter_hours,
        num_moved=result.num_moved,
    )


def _in_service_hours(result: Result) -> float:
    return sum(one.e2e_ms for one in result.outcomes) / 3.6e6


def _attained(result: Result, category: str | None = None) -> float:
    judged = [one for one in result.outcomes if one.has_target and category in (None, one.category)]
    return 100.0 * sum(one.attained for one in judged) / len(judged)


def markdown(lines: Sequence[Line], reference: Line) -> Iterator[str]:
    """A table; the last column is the GPU-hours against those of ``reference``."""
    yield f"| {' | '.join(HEAD)} |"
    yield "|" + "---|" * len(HEAD)
    for each in lines:
        name = f"**{each.sizing}**" if each is reference else each.sizing
        cells = (
            name,
            f"{each.attained:.1f} %",
            f"{each.ttft_p99_s:.1f} s",
            f"{each.verifiers:.1f} ({each.most_verifiers})",
            f"{each.in_service:.1f}",
            f"{each.drafters:.1f}",
            f"{each.gpu_hours:.1f}",
            f"{100 * each.gpu_hours / reference.gpu_hours:.0f} %",
        )
        yield f"| {' | '.join(cells)} |"
