"""The figures of a comparison: reports of each system at each load, and differences of paired rounds. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from bench.replay.goodput import Targets
from bench.replay.plan import Planned
from bench.report import Estimate, Outcome, Report, attainment, goodput, paired_difference


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One load: the report of each system over the same rounds, ours first.

    `offered` is the ceiling of goodput: the tokens per second that were asked for with a target. `unequal` names
    the runs whose figures were not the server's own.
    """

    rps: float
    offered: float
    reports: Sequence[Report]
    unequal: Sequence[str]

    @property
    def best(self) -> float:
        """Highest attainment of any system, percent."""
        return max(report.attainment.mean or 0.0 for report in self.reports)

    def differences(self) -> dict[str, tuple[Estimate, Estimate]]:
        """Ours minus each rival, round by round: attainment in points and goodput in tokens per second."""
        ours, *rivals = self.reports
        return {
            rival.system: (
                _difference(ours, rival, attainment),
                _difference(ours, rival, goodput),
            )
            for rival in rivals
        }

    def below(self) -> list[str]:
        """Rivals that we are below, in attainment or goodput, beyond paired noise."""
        return [
            rival for rival, found in self.differences().items() if any(_bounds(each)[1] < 0.0 for each in found)
        ]

    def ahead(self) -> set[str]:
        """Rivals that we are ahead of, in attainment or goodput, beyond paired noise."""
        return {
            rival for rival, found in self.differences().items() if any(_bounds(each)[0] > 0.0 for each in found)
        }

    def json(self) -> dict[str, Any]:
        return {
            "rps": self.rps,
            "offered_tokens_per_s": round(self.offered, 3),
            "reports": [report.json() for report in self.reports],
            "differences": {
                rival: {"attainment": points.json(), "goodput_tokens_per_s": tokens.json()}
                for rival, (points, tokens) in self.differences().items()
            },
            "unequal": list(self.unequal),
        }


def verdict(loads: Sequence[Load]) -> list[str]:
    """What is missing: ours must never be below a rival, and ahead of each at one load or more.

    One round has no paired noise to judge by: then nothing is said.
    """
    if len(loads[0].reports[0].runs) < 2:
        return []
    rivals = [report.system for report in loads[0].reports[1:]]
    below = [f"below {rival} at {load.rps:g} requests/s" for load in loads for rival in load.below()]
    ahead = set().union(*(load.ahead() for load in loads))
    return below + [f"ahead of {rival} at no load" for rival in rivals if rival not in ahead]


def _bounds(estimate: Estimate) -> tuple[float, float]:
    mean, half = estimate.mean or 0.0, estimate.ci95 or 0.0
    return mean - half, mean + half


def offered_tokens_per_s(runs: Mapping[int, Sequence[Planned]]) -> float:
    """Mean over the rounds of the tokens that are asked for with a target, per second of arrivals."""
    return fmean(_offered(planned) for planned in runs.values())


def _offered(planned: Sequence[Planned]) -> float:
    wanted = sum(one.body["max_tokens"] for one in planned if one.targets != Targets())
    spent_ms = planned[-1].at_ms - planned[0].at_ms
    return float(1_000 * wanted / spent_ms) if spent_ms > 0 else 0.0


def _difference(ours: Report, theirs: Report, figure: Callable[[Sequence[Outcome]], float | None]) -> Estimate:
    seeds = list(ours.runs)
    mine, others = ([figure(report.runs[seed]) or 0.0 for seed in seeds] for report in (ours, theirs))
    return paired_difference(mine, others)
