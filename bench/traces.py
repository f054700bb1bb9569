"""A request trace: when which request arrives, how long it is and how fast its user needs it. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from shared.policy import MAX_MS, MAX_RATIO

MAX_ARRIVAL_MS = 1e10  # 115 days
MAX_TOKENS = 1 << 20  # the gateway's own limit
MAX_CATEGORY_CHARS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceRequest:
    """One request. At most one of `tpot_ratio` (times the zero-load latency) and `tpot_ms`; neither: best effort.

    Raises ValueError naming field, value and limit.
    """

    arrival_ms: float
    category: str
    prompt_tokens: int
    output_tokens: int
    tpot_ratio: float | None = None
    tpot_ms: float | None = None
    prompt_id: str = ""
    ttft_ms: float | None = None  # until the first token; trace files have no such column

    def __post_init__(self) -> None:
        _require("arrival_ms", self.arrival_ms, 0.0, MAX_ARRIVAL_MS)
        _require("prompt_tokens", self.prompt_tokens, 1, MAX_TOKENS)
        _require("output_tokens", self.output_tokens, 1, MAX_TOKENS)
        _require_positive("tpot_ratio", self.tpot_ratio, MAX_RATIO)
        _require_positive("tpot_ms", self.tpot_ms, MAX_MS)
        _require_positive("ttft_ms", self.ttft_ms, MAX_MS)
        if self.tpot_ratio is not None and self.tpot_ms is not None:
            raise ValueError(
                f"tpot_ratio={self.tpot_ratio:g} and tpot_ms={self.tpot_ms:g}: a request has at most one of both"
            )
        if not 1 <= len(self.category) <= MAX_CATEGORY_CHARS or not self.category.isprintable():
            raise ValueError(
                f"category={self.category[:80]!r}: must be 1 to {MAX_CATEGORY_CHARS} printable characters"
            )

    def target_ms(self, zero_load_ms: float) -> float:
        """The TPOT target in ms on hardware that needs `zero_load_ms` for a token; +inf for best effort."""
        if self.tpot_ratio is not None:
            return self.tpot_ratio * zero_load_ms
        return math.inf if self.tpot_ms is None else self.tpot_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Requests sorted by arrival, at least one. Raises ValueError otherwise."""

    name: str
    requests: tuple[TraceRequest, ...]

    def __post_init__(self) -> None:
        if not self.requests:
            raise ValueError(f"trace {self.name!r} has no requests; it must have at least one")
        arrivals = [request.arrival_ms for request in self.requests]
        if arrivals != sorted(arrivals):
            raise ValueError(f"trace {self.name!r}: requests must be sorted by arrival_ms")

    @property
    def duration_ms(self) -> float:
        """From time 0 to the last arrival."""
        return self.requests[-1].arrival_ms

    @property
    def rate(self) -> float:
        """Requests per second on average; 0 when all arrive at time 0."""
        return 1_000 * len(self.requests) / self.duration_ms if self.duration_ms > 0 else 0.0

    @property
    def categories(self) -> tuple[str, ...]:
        """In alphabetical order."""
        return tuple(sorted({request.category for request in self.requests}))

    def head(self, *, seconds: float = math.inf, requests: int | None = None) -> Trace:
        """What arrives within `seconds`, at most so many requests; ValueError when that is nothing."""
        kept = [request for request in self.requests if request.arrival_ms <= 1_000 * seconds]
        return replace(self, requests=tuple(kept[:requests]))

    def scaled(self, *, speed: float = 1.0, lengths: float = 1.0) -> Trace:
        """Arrivals `speed` times as dense; prompts and outputs `lengths` times as long, at least one token."""
        return replace(
            self,
            requests=tuple(
                replace(
                    request,
                    arrival_ms=request.arrival_ms / speed,
                    prompt_tokens=max(1, round(request.prompt_tokens * lengths)),
                    output_tokens=max(1, round(request.output_tokens * lengths)),
                )
                for request in self.requests
            ),
        )


def sorted_trace(name: str, requests: Sequence[TraceRequest]) -> Trace:
    """Requests in any order; those that arrive together keep theirs."""
    return Trace(name=name, requests=tuple(sorted(requests, key=lambda request: request.arrival_ms)))


def _require(field: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:  # NaN is outside too
        raise ValueError(f"{field}={value:g}: must be from {low:g} to {high:g}")


def _require_positive(field: str, value: float | None, high: float) -> None:
    if value is not None and not 0 < value <= high:
        raise ValueError(f"{field}={value:g}: must be above 0 and at most {high:g}")
