"""Other thresholds than the chart's, one at a time: what each attains on the half that thresholds are chosen on.

The rule of choice was written down before anything was run. Of all that attain GOAL in each load, on average over
the seeds, the one with the fewest GPU-hours over all loads, but the chart's where that saves less than WORTHWHILE;
where none attains it, the one that attains most in its worst load.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.scaling.rules import Direction, Policy, Rules
from bench.scaling.sizing import Scaled
from bench.scaling.table import Line
from shared.errors import ConfigurationError

CHART = "the chart's rules"
GOAL = 99.0  # percent
WORTHWHILE = 0.03  # of the chart's GPU-hours
CANDIDATES: Mapping[str, tuple[float, ...]] = {
    "verifier.running": (8, 10, 12, 14, 17, 20),
    "verifier.waiting": (2, 3, 5),
    "verifier.attainment": (0.05, 0.1, 0.2),
    "verifier.kv": (0.6, 0.7, 0.85),
    "verifier.up": (60, 120, 240),
    "drafter.busy": (0.2, 0.3, 0.4, 0.5),
    "drafter.queueWait": (0.01, 0.02, 0.04),
}


@dataclass(frozen=True, slots=True)
class Pair:
    """Rules of both services."""

    verifier: Rules
    drafter: Rules

    def scaled(self, name: str, first: int) -> Scaled:
        """A cell that is sized by them."""
        return Scaled(name, self.verifier, self.drafter, first)

    def with_value(self, name: str, value: float) -> Pair:
        """With another target of a trigger, or another period of the verifier's scaleUp (``verifier.up``)."""
        service, field = name.split(".")
        rules: Rules = getattr(self, service)
        changed = with_up(rules, int(value)) if field == "up" else with_target(rules, field, value)
        return Pair(changed, self.drafter) if service == "verifier" else Pair(self.verifier, changed)

    def changed(self, change: str) -> Pair:
        """With a change in words, NAME=VALUE. Raises ConfigurationError for one that CANDIDATES does not know."""
        name, _, value = change.partition("=")
        try:
            number = float(value)
        except ValueError:
            number = 0.0
        if name not in CANDIDATES or number <= 0.0:
            known = ", ".join(CANDIDATES)
            raise ConfigurationError(f"--also {change}: must be NAME=VALUE, a value above 0 of one of {known}")
        return self.with_value(name, number)

    def value(self, name: str) -> float:
        """What ``with_value`` would change."""
        service, field = name.split(".")
        rules: Rules = getattr(self, service)
        if field == "up":
            return float(rules.behavior.scaleUp.policies[0].periodSeconds)
        return rules.triggers[field].target


def with_target(rules: Rules, trigger: str, target: float) -> Rules:
    """The same with another target."""
    changed = rules.triggers[trigger].model_copy(update={"target": target})
    return rules.model_copy(update={"triggers": {**rules.triggers, trigger: changed}})


def with_up(rules: Rules, period_s: int) -> Rules:
    """The same, scaled up once in so many seconds."""
    up = rules.behavior.scaleUp
    policies = [Policy(type=one.type, value=one.value, periodSeconds=period_s) for one in up.policies]
    changed = Direction(**{**up.model_dump(), "policies": policies})
    return rules.model_copy(update={"behavior": rules.behavior.model_copy(update={"scaleUp": changed})})


def candidates(chart: Pair, names: Sequence[str]) -> Iterator[tuple[str, Pair]]:
    """The chart's rules, and each with one of these values changed."""
    yield CHART, chart
    for name in names:
        for value in CANDIDATES[name]:
            if value != chart.value(name):
                yield f"{name} {value:g}", chart.with_value(name, value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """Means over the seeds, by load."""

    name: str
    attained: Mapping[str, float]
    gpu_hours: Mapping[str, float]

    @property
    def worst(self) -> float:
        """Attained in the load that it is worst in."""
        return min(self.attained.values())

    @property
    def cost(self) -> float:
        """GPU-hours of all loads."""
        return sum(self.gpu_hours.values())


def candidate(name: str, lines: Mapping[str, Sequence[Line]]) -> Candidate:
    """From the lines of each load, one a seed."""
    return Candidate(
        name=name,
        attained={load: float(np.mean([line.attained for line in each])) for load, each in lines.items()},
        gpu_hours={load: float(np.mean([line.gpu_hours for line in each])) for load, each in lines.items()},
    )


def chosen(all_of_them: Sequence[Candidate]) -> Candidate:
    """By the rule above."""
    enough = [each for each in all_of_them if each.worst >= GOAL]
    if not enough:
        return max(all_of_them, key=lambda each: each.worst)
    cheapest = min(enough, key=lambda each: each.cost)
    kept = [each for each in enough if each.name == CHART and cheapest.cost > (1.0 - WORTHWHILE) * each.cost]
    return kept[0] if kept else cheapest


def table(all_of_them: Sequence[Candidate]) -> Iterator[str]:
    """A line each, the chosen one in bold."""
    best = chosen(all_of_them)
    loads = list(best.attained)
    yield f"| rules | {' | '.join(f'{load}: attained | GPU-hours' for load in loads)} | all GPU-hours |"
    yield "|" + "---|" * (2 + 2 * len(loads))
    for each in all_of_them:
        name = f"**{each.name}**" if each is best else each.name
        cells = [f"{each.attained[load]:.1f} % | {each.gpu_hours[load]:.1f}" for load in loads]
        yield f"| {name} | {' | '.join(cells)} | {each.cost:.1f} |"
