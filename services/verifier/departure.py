"""When a verifier that is to stop gives back what it serves. Pure."""

from __future__ import annotations

SETTLE_MS = 500.0  # two heartbeats: others that are told to stop in the same moment have said so by then
LOOK_MS = 100.0
FINISH_MS = 500.0  # of prediction: a request that ends sooner is not worth a stall


class Departure:
    """From the order to stop, at ``now_ms``, on. All times in ms on one clock.

    Requests are served on until another verifier is there to take them. From then on they have FINISH_MS: whoever
    is predicted to need more than is left of that is given back.
    """

    def __init__(self, now_ms: float) -> None:
        self._next_look_ms = now_ms + SETTLE_MS
        self._ends_ms: float | None = None

    def is_time_to_look(self, now_ms: float) -> bool:
        """Whether to look for another verifier now; True once in LOOK_MS until there is one."""
        if self._ends_ms is not None or now_ms < self._next_look_ms:
            return False
        self._next_look_ms = now_ms + LOOK_MS
        return True

    def relieved(self, now_ms: float) -> None:
        """Another verifier is there."""
        self._ends_ms = now_ms + FINISH_MS

    def gives_back(self, remaining_ms: float, now_ms: float) -> bool:
        """Whether a request that is predicted to need ``remaining_ms`` is to go now."""
        return self._ends_ms is not None and remaining_ms > self._ends_ms - now_ms
