"""What the sizings of one load come to: a line each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.scaling.result import Result

HEAD = (
    "sizing",
    "attained",
    "points",
    "TTFT p99",
    "verifiers (most)",
    "each serves",
    "drafters",
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


def markdown(rows: Mapping[str, Sequence[Line]], reference: str) -> Iterator[str]:
    """A table: means over the seeds, of which each row has the same in the same order, from the least to the most.

    Points and GPU-hours are against the row ``reference``, seed by seed.
    """
    yield f"| {' | '.join(HEAD)} |"
    yield "|" + "---|" * len(HEAD)
    for name, lines in rows.items():
        pairs = list(zip(lines, rows[reference], strict=True))
        cells = (
            f"**{name}**" if name == reference else name,
            _spread([each.attained for each in lines], " %"),
            ""
            if name == reference
            else _spread([one.attained - other.attained for one, other in pairs], sign="+"),
            _spread([each.ttft_p99_s for each in lines], " s"),
            f"{_mean(each.verifiers for each in lines):.1f} ({max(each.most_verifiers for each in lines)})",
            f"{_mean(each.in_service for each in lines):.1f}",
            f"{_mean(each.drafters for each in lines):.1f}",
            _spread([each.gpu_hours for each in lines]),
            f"{100 * _mean(one.gpu_hours / other.gpu_hours for one, other in pairs):.0f} %",
        )
        yield f"| {' | '.join(cells)} |"


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _spread(values: Sequence[float], unit: str = "", sign: str = "") -> str:
    """The mean, and behind it from the least to the most where these are not the same."""
    mean, least, most = (f"{value:{sign}.1f}" for value in (_mean(values), min(values), max(values)))
    return f"{mean}{unit}" if least == most else f"{mean}{unit} ({least} to {most})"
