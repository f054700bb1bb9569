"""How long answers are, as far as this gateway has seen: what a request is expected to take. Pure."""

from __future__ import annotations

FIRST_GUESS = 256.0
MEMORY = 32  # finished requests


class TypicalOutput:
    """A running mean of output lengths."""

    def __init__(self) -> None:
        self._mean = FIRST_GUESS

    def observe(self, tokens: int) -> None:
        """A request has finished with so many."""
        self._mean += (tokens - self._mean) / MEMORY

    def expected(self, max_tokens: int) -> int:
        """Of a request that may have so many; at least 1."""
        return max(1, min(max_tokens, round(self._mean)))
