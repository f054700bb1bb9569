"""How often something may be done: so many times a second, what was not used kept for one second. Pure."""

from __future__ import annotations

from collections.abc import Callable


class Allowance:
    """A token bucket; at least one fits in. ``clock`` is monotonic, in seconds."""

    def __init__(self, per_s: float, clock: Callable[[], float]) -> None:
        self._per_s = per_s
        self._most = max(1.0, per_s)
        self._clock = clock
        self._left = self._most
        self._at = clock()

    def take(self) -> bool:
        """Whether once more is allowed now; if so, it is used."""
        now = self._clock()
        self._left = min(self._most, self._left + (now - self._at) * self._per_s)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
