"""What one more level of candidate trees costs this drafter. Pure."""

from __future__ import annotations

import statistics
from collections import deque

MEMORY = 16  # levels of one size


class LevelTime:
    """Running medians of the time to grow one level, by the number of nodes fed, in powers of two."""

    def __init__(self) -> None:
        self._times: dict[int, deque[float]] = {}

    def observe(self, num_nodes: int, ms: float) -> None:
        """Feeding a level of `num_nodes` nodes and growing the next took `ms`."""
        self._times.setdefault(num_nodes.bit_length(), deque(maxlen=MEMORY)).append(ms)

    def typical_ms(self, num_nodes: int) -> float:
        """The median for levels of about `num_nodes` nodes, else of the nearest size; 0 before there is any."""
        if not self._times:
            return 0.0
        size = num_nodes.bit_length()
        return statistics.median(self._times[min(self._times, key=lambda known: (abs(known - size), known))])
