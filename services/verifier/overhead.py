"""What an iteration costs besides drafting and its forward pass: hops, selection, acceptance, commit. Pure."""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass, field

MEMORY = 32  # iterations


@dataclass(slots=True, eq=False)
class Overhead:
    """Running median over iterations that went round the ring; times are of one monotonic clock."""

    _times: deque[float] = field(default_factory=lambda: deque(maxlen=MEMORY))
    _answered: tuple[float, float] | None = None  # when the DraftRequest left, less what drafting took

    @property
    def typical_ms(self) -> float:
        """Never negative; 0 before the first iteration is over."""
        return statistics.median(self._times) if self._times else 0.0

    def answered(self, sent_ms: float, draft_ms: float) -> None:
        """The DraftRequest sent at `sent_ms` was answered by trees that took `draft_ms` to draft."""
        self._answered = (sent_ms, draft_ms)

    def committed(self, now_ms: float, forward_ms: float) -> None:
        """The tokens of the step are committed; without an answered request it was no iteration of the ring."""
        if self._answered is not None:
            sent_ms, draft_ms = self._answered
            self._times.append(max(0.0, now_ms - sent_ms - draft_ms - forward_ms))
            self._answered = None
