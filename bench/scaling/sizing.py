"""Who decides how many replicas there are: nobody, the chart's rules, or the processor's load."""

from __future__ import annotations

from dataclasses import dataclass, field

from bench.scaling.autoscaler import Autoscaler
from bench.scaling.cell import Standing
from bench.scaling.rules import Rules, Trigger

Sizes = tuple[int, int]
CPU_TARGET = 70.0  # percent, what most charts begin with


@dataclass(frozen=True, slots=True)
class Fixed:
    """As many verifiers and drafters at all times."""

    verifiers: int
    drafters: int

    @property
    def name(self) -> str:
        """As in the table."""
        return f"fixed, {self.verifiers} + {self.drafters}"

    def begin(self) -> Sizes:
        """Before the first request."""
        return self.verifiers, self.drafters

    def sizes(self, standing: Standing) -> Sizes:
        """The same."""
        return standing.sizes


@dataclass(slots=True)
class Scaled:
    """By rules for verifiers and for drafters; it begins with ``first`` verifiers, and a drafter each."""

    name: str
    verifier: Rules
    drafter: Rules
    first: int
    _scalers: tuple[Autoscaler, Autoscaler] = field(init=False)

    def __post_init__(self) -> None:
        self._scalers = Autoscaler(self.verifier), Autoscaler(self.drafter)

    def begin(self) -> Sizes:
        """Before the first request."""
        return self.first, self.first

    def sizes(self, standing: Standing) -> Sizes:
        """What each service's autoscaler says of what has been scraped."""
        verifiers, drafters = (
            scaler.decide(standing.now_s, size, ready, standing.gauges.values(rules))
            for scaler, size, ready, rules in zip(
                self._scalers, standing.sizes, standing.ready, (self.verifier, self.drafter), strict=True
            )
        )
        return verifiers, drafters


def by_cpu(rules: Rules, name: str) -> Rules:
    """The same bounds and behaviour, with the processor's load, by its ``name``, for the only metric."""
    trigger = Trigger(type="Utilization", target=CPU_TARGET, query="[60s]")
    return rules.model_copy(update={"triggers": {name: trigger}})


def only(rules: Rules, *names: str) -> Rules:
    """The same, with these triggers alone."""
    return rules.model_copy(update={"triggers": {name: rules.triggers[name] for name in names}})
