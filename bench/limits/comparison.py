"""A run beside a stored one. On another machine only ratios to floors say something."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.limits.figures import figures_by_name

NOISE = 0.15  # differences below are what repeated runs on a quiet machine differ by


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One figure then and now. ``what`` is its unit, or "× floor" where ratios are compared."""

    section: str
    figure: str
    what: str
    before: float
    now: float
    at_least: bool = False

    @property
    def relative(self) -> float:
        """+0.2: a fifth more than before."""
        return self.now / self.before - 1

    @property
    def word(self) -> str:
        """Better, worse, or within the noise."""
        if abs(self.relative) <= NOISE:
            return "same"
        return "better" if (self.relative > 0) == self.at_least else "WORSE"


def differing(machine: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Names of what the two machines' descriptions differ in."""
    return sorted(key for key in machine.keys() | other.keys() if machine.get(key) != other.get(key))


def changes(report: Mapping[str, Any], baseline: Mapping[str, Any]) -> list[Change]:
    """Figures that both have, in the report's order: values on the same machine, ratios on another."""
    by_value = not differing(report["machine"], baseline["machine"])
    stored = figures_by_name(baseline["sections"])
    found = []
    for (section, name), figure in figures_by_name(report["sections"]).items():
        before = stored.get((section, name))
        if before is None or before["unit"] != figure["unit"]:
            continue
        is_ratio = not by_value and figure["unit"] != "×"
        key = "ratio" if is_ratio else "value"
        if before.get(key) and figure.get(key):
            found.append(
                Change(
                    section=section,
                    figure=name,
                    what="× floor" if is_ratio else figure["unit"],
                    before=before[key],
                    now=figure[key],
                    at_least=is_more_better(figure),
                )
            )
    return found


def is_more_better(figure: Mapping[str, Any]) -> bool:
    """Of a rate, and of what was promised to be at least something."""
    return bool(figure.get("at_least")) or str(figure["unit"]).endswith("/s")
