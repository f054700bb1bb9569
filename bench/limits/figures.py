"""What a section of the benchmark says: figures, the floor that each stands on, the target it is held against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """What the figure cannot be below on this machine, measured in the same run and in the figure's unit."""

    name: str
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What was promised: at most ``limit``, or at least it. ``goal`` is what would be better still."""

    limit: float
    at_least: bool = False
    goal: float | None = None

    def is_met_by(self, value: float) -> bool:
        """Whether the value keeps the promise; NaN keeps none."""
        return value >= self.limit if self.at_least else value <= self.limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured value: the median where there were many, with their 99th percentile."""

    name: str
    unit: str
    value: float
    p99: float | None = None
    floor: Floor | None = None
    target: Target | None = None

    @property
    def ratio(self) -> float | None:
        """How many times the floor; None without one."""
        return None if self.floor is None or self.floor.value <= 0 else self.value / self.floor.value

    @property
    def is_met(self) -> bool | None:
        """Whether the target is met; None without one."""
        return None if self.target is None else self.target.is_met_by(self.value)

    def as_json(self) -> dict[str, Any]:
        """Plain values, what is derived among them."""
        told: dict[str, Any] = {"name": self.name, "unit": self.unit, "value": self.value}
        if self.p99 is not None:
            told["p99"] = self.p99
        if self.floor is not None:
            told |= {"floor": self.floor.value, "floor_is": self.floor.name, "ratio": self.ratio}
        if self.target is not None:
            told |= {"target": self.target.limit, "at_least": self.target.at_least, "met": self.is_met}
            if self.target.goal is not None:
                told["goal"] = self.target.goal
        return told


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """The figures of one subject. ``placement`` says which processes ran on which cores with how many threads."""

    name: str
    placement: str
    figures: Sequence[Figure]
    notes: Sequence[str] = ()

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "placement": self.placement,
            "figures": [figure.as_json() for figure in self.figures],
            "notes": list(self.notes),
        }


def figures_by_name(sections: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """(section, figure) -> the figure, of sections as JSON."""
    return {(name, figure["name"]): figure for name, section in sections.items() for figure in section["figures"]}
