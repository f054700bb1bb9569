"""How fast this verifier gets on while it has work: gateways promise and predict waiting times by it. Pure."""

from __future__ import annotations

import math
import statistics
from collections import deque
from dataclasses import dataclass, field

MEMORY_MS = 3000.0  # of busy time; older steps count 1/e
MEMORY = 64  # periods
FAVOURED_KEEP = 1 - 1 / MEMORY


@dataclass(slots=True, eq=False)
class Pace:
    """Averages over recent busy time, 0 before the first step. Times are of one monotonic clock."""

    _busy_ms: float = 0.0
    _work: float = 0.0
    _num_speculative: float = 0.0
    _favoured: float = 0.0
    _last_ms: float | None = None  # when the step before ended, if there has been work since
    _since_decoding_ms: float = 0.0
    _periods: deque[float] = field(default_factory=lambda: deque(maxlen=MEMORY))

    def idle(self) -> None:
        """There is nothing to do: time until the next step is not the server's."""
        self._last_ms, self._since_decoding_ms = None, 0.0

    def stepped(
        self, start_ms: float, now_ms: float, *, work: int, is_decoding: bool, favoured: int | None
    ) -> None:
        """A step was committed. ``work`` is prompt tokens fed and output tokens settled, ``favoured`` what the
        request with the largest tree got, None where nobody had one."""
        elapsed_ms = now_ms - (start_ms if self._last_ms is None else self._last_ms)
        keep = math.exp(-elapsed_ms / MEMORY_MS)
        self._busy_ms = keep * self._busy_ms + elapsed_ms
        self._work = keep * self._work + work
        self._last_ms = now_ms
        self._since_decoding_ms += elapsed_ms
        if is_decoding:
            self._periods.append(self._since_decoding_ms)
            self._since_decoding_ms = 0.0
        if favoured is not None:
            self._num_speculative = FAVOURED_KEEP * self._num_speculative + 1
            self._favoured = FAVOURED_KEEP * self._favoured + favoured

    @property
    def tokens_per_s(self) -> float:
        """Tokens of prompts and outputs together, as queues count them."""
        return 1_000 * self._work / self._busy_ms if self._busy_ms else 0.0

    @property
    def period_ms(self) -> float:
        """From one decoding step to the next, prefill between them included: the median, as a stall is no pace."""
        return statistics.median(self._periods) if self._periods else 0.0

    @property
    def favoured_tokens(self) -> float:
        """Tokens a step brings the request that the selector gives most, when it gives any.

        Steps without a tree tell nothing: nobody may need one now, and the next request may.
        """
        return self._favoured / self._num_speculative if self._num_speculative else 0.0

    def describe(self) -> dict[str, float]:
        """For the heartbeat."""
        return {
            "tokens_per_s": self.tokens_per_s,
            "period_ms": self.period_ms,
            "favoured_tokens": self.favoured_tokens,
        }
