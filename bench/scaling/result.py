"""What one sizing of a cell gave."""

from __future__ import annotations

from dataclasses import dataclass

from bench.report import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The cell at one moment."""

    at_s: float
    verifiers: int
    ready: int
    drafters: int
    queued: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Hours are of replicas, from the order on; ``num_moved`` requests went to another verifier."""

    name: str
    outcomes: tuple[Outcome, ...]
    verifier_hours: float
    drafter_hours: float
    num_moved: int
    samples: tuple[Sample, ...]

    @property
    def hours(self) -> float:
        """Until the last token."""
        return max(outcome.last_ms or 0.0 for outcome in self.outcomes) / 3.6e6
