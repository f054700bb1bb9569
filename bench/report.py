"""What a replayed or simulated trace comes to: attainment, goodput and latencies, in one shape for both. Pure.

Definitions are those of docs/api.md. A request that failed has not attained. A request without a target has no
SLO: it counts neither for attainment nor for goodput, as on the server; its latencies count.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shared import slo

# Two-sided 95 % of Student's t with 1 to 10 degrees of freedom; beyond, a series in 1/df is exact to 1e-3.
_T95 = (12.7062, 4.30265, 3.18245, 2.77645, 2.57058, 2.44691, 2.36462, 2.30600, 2.26216, 2.22814)
_Z95 = 1.959964


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one request; times in ms on one clock, targets +inf where there is none.

    `first_ms` and `last_ms` are the commits of the first and the last token, None without tokens. `failure` says
    in a few words why a request did not finish. `num_steps` counts its verifications of drafted tokens and
    `num_accepted` the drafted tokens they accepted.
    """

    category: str
    arrival_ms: float
    first_ms: float | None
    last_ms: float | None
    tokens: int
    target_ms: float
    ttft_target_ms: float = math.inf
    e2e_target_ms: float = math.inf
    num_steps: int = 0
    num_accepted: int = 0
    failure: str | None = None

    @property
    def has_target(self) -> bool:
        return math.isfinite(min(self.target_ms, self.ttft_target_ms, self.e2e_target_ms))

    @property
    def ttft_ms(self) -> float | None:
        """From arrival to the first token, queueing included."""
        return None if self.first_ms is None else self.first_ms - self.arrival_ms

    @property
    def tpot_ms(self) -> float | None:
        """(last − first) / (tokens − 1); None below two tokens."""
        if self.first_ms is None or self.last_ms is None or self.tokens < 2:
            return None
        return slo.tpot_ms(self.first_ms, self.last_ms, self.tokens)

    @property
    def e2e_ms(self) -> float:
        """From arrival to the last token; +inf without one."""
        return math.inf if self.last_ms is None else self.last_ms - self.arrival_ms

    @property
    def attained(self) -> bool:
        """Whether it finished and kept every target it has; False without a target."""
        if self.failure is not None or not self.has_target:
            return False
        ttft = math.inf if self.ttft_ms is None else self.ttft_ms
        paced = slo.attained(
            tpot=self.tpot_ms or 0.0, tpot_target=self.target_ms, ttft=ttft, ttft_target=self.ttft_target_ms
        )
        return paced and self.e2e_ms <= self.e2e_target_ms


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over runs, and half the width of its 95 % confidence interval (None for one run)."""

    mean: float | None
    ci95: float | None

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Estimate:
        """By Student's t. A run that has no such figure (None) does not count."""
        known = [value for value in values if value is not None]
        if not known:
            return cls(None, None)
        if len(known) == 1:
            return cls(known[0], None)
        error = statistics.stdev(known) / math.sqrt(len(known))
        return cls(statistics.fmean(known), student_t95(len(known) - 1) * error)

    def json(self) -> dict[str, float | None]:
        return {"mean": _rounded(self.mean), "ci95": _rounded(self.ci95)}


def student_t95(freedom: int) -> float:
    """The t that 95 % of Student's distribution with `freedom` ≥ 1 degrees of freedom lies within."""
    if freedom <= len(_T95):
        return _T95[freedom - 1]
    z, z3, z5, z7 = (_Z95**power for power in (1, 3, 5, 7))
    first = (z3 + z) / (4 * freedom)
    second = (5 * z5 + 16 * z3 + 3 * z) / (96 * freedom**2)
    third = (3 * z7 + 19 * z5 + 17 * z3 - 15 * z) / (384 * freedom**3)
    return z + first + second + third


def paired_difference(ours: Sequence[float], theirs: Sequence[float]) -> Estimate:
    """Of rounds in which both sides did the same work."""
    return Estimate.of(mine - other for mine, other in zip(ours, theirs, strict=True))


def unpaired_difference(ours: Sequence[float], theirs: Sequence[float]) -> Estimate:
    """Of at least two runs a side that have nothing to do with each other: Welch's t, degrees of freedom rounded
    down."""
    gap = statistics.fmean(ours) - statistics.fmean(theirs)
    parts = [(statistics.variance(side) / len(side), len(side) - 1) for side in (ours, theirs)]
    error2 = sum(part for part, _ in parts)
    if error2 == 0:
        return Estimate(gap, 0.0)
    freedom = error2**2 / sum(part**2 / less for part, less in parts)
    return Estimate(gap, student_t95(max(1, math.floor(freedom + 1e-9))) * math.sqrt(error2))


def attainment(outcomes: Iterable[Outcome]) -> float | None:
    """Percent of the requests with a target that attained it; None without such requests."""
    verdicts = [outcome.attained for outcome in outcomes if outcome.has_target]
    return 100.0 * sum(verdicts) / len(verdicts) if verdicts else None


def goodput_tokens(outcomes: Iterable[Outcome]) -> int:
    """Tokens of the requests that attained."""
    return sum(outcome.tokens for outcome in outcomes if outcome.attained)


def duration_ms(outcomes: Sequence[Outcome]) -> float:
    """From the first arrival to the last token of the run, or the last arrival where that is later."""
    if not outcomes:
        return 0.0
    ends = [outcome.arrival_ms if outcome.last_ms is None else outcome.last_ms for outcome in outcomes]
    last = max(*ends, *(outcome.arrival_ms for outcome in outcomes))
    return last - min(outcome.arrival_ms for outcome in outcomes)


def goodput(outcomes: Sequence[Outcome]) -> float | None:
    """Tokens per second of the requests that attained, over the run's duration; None for a run of no duration."""
    spent_ms = duration_ms(outcomes)
    return 1_000 * goodput_tokens(outcomes) / spent_ms if spent_ms > 0 else None


def percentiles(values: Iterable[float | None]) -> dict[str, float | None]:
    """p50 and p99 by linear interpolation, None left out."""
    known = [value for value in values if value is not None]
    if not known:
        return {"p50": None, "p99": None}
    low, high = np.percentile(known, (50, 99))
    return {"p50": _rounded(float(low)), "p99": _rounded(float(high))}


def tokens_per_verification(outcomes: Iterable[Outcome]) -> float | None:
    """Of a request's step with drafted tokens: the accepted ones and the target's own. None without steps."""
    steps = accepted = 0
    for outcome in outcomes:
        steps += outcome.num_steps
        accepted += outcome.num_accepted
    return _rounded(1 + accepted / steps) if steps else None


def shares(parts: Mapping[str, float]) -> dict[str, float] | None:
    """Each part of their sum; None where that is nothing."""
    whole = sum(parts.values())
    return {name: part / whole for name, part in parts.items()} if whole > 0 else None


def failures(outcomes: Iterable[Outcome]) -> dict[str, int]:
    """How many requests failed for each reason, the most frequent first."""
    return dict(Counter(outcome.failure for outcome in outcomes if outcome.failure is not None).most_common())


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One trace on one system. `runs` holds the outcomes for each seed; `time_share` is null where unknown."""

    trace: str
    hardware: str
    system: str
    runs: Mapping[int, Sequence[Outcome]]
    time_share: Mapping[str, float | None] | None = None

    @property
    def outcomes(self) -> list[Outcome]:
        """Of all runs."""
        return [outcome for run in self.runs.values() for outcome in run]

    @property
    def attainment(self) -> Estimate:
        """Percent."""
        return Estimate.of(attainment(run) for run in self.runs.values())

    @property
    def goodput(self) -> Estimate:
        """Tokens per second."""
        return Estimate.of(goodput(run) for run in self.runs.values())

    def by_category(self) -> dict[str, float | None]:
        """Mean attainment over the runs, percent; None for best effort."""
        return {
            category: _rounded(
                Estimate.of(
                    attainment(one for one in run if one.category == category) for run in self.runs.values()
                ).mean
            )
            for category in sorted({outcome.category for outcome in self.outcomes})
        }

    def json(self) -> dict[str, Any]:
        """The object that `adaserve replay --json` and the simulator print; percentiles are over all runs."""
        share = self.time_share or {}
        return {
            "trace": self.trace,
            "hardware": self.hardware,
            "system": self.system,
            "seeds": list(self.runs),
            "attainment": {**self.attainment.json(), "by_category": self.by_category()},
            "goodput_tokens_per_s": self.goodput.json(),
            "tpot_ms": percentiles(outcome.tpot_ms for outcome in self.outcomes),
            "ttft_ms": percentiles(outcome.ttft_ms for outcome in self.outcomes),
            "tokens_per_verification": tokens_per_verification(self.outcomes),
            "time_share": {name: _rounded(share.get(name)) for name in TIME_SHARES},
        }


TIME_SHARES = ("scheduling", "speculation", "verification")


def _rounded(value: float | None) -> float | None:
    """To a thousandth, which is a microsecond for times."""
    return None if value is None else round(value, 3)
