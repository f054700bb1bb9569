"""How many requests attained their SLO lately, class by class, as this gateway saw them end. Pure."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

WINDOW_S = 300.0
SLICE_S = 5.0
MAX_CLASSES = 64  # the rest are one
OTHER = "other"
LEAST_S = 1.0


@dataclass(slots=True)
class Tally:
    """Requests with a target, those of them that attained it, and the tokens of these."""

    requests: int = 0
    met: int = 0
    tokens: int = 0


@dataclass(slots=True)
class _Slice:
    number: int
    requests: Counter[str] = field(default_factory=Counter)
    met: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)


class Attainment:
    """Sums over the last WINDOW_S seconds, in slices. Times are of one monotonic clock, in seconds."""

    def __init__(self) -> None:
        self._slices: deque[_Slice] = deque(maxlen=round(WINDOW_S / SLICE_S))
        self._names: set[str] = set()
        self._first_s: float | None = None

    def finished(self, name: str, *, met: bool, tokens: int, now_s: float) -> None:
        """A request of a class ended."""
        now = self._at(now_s)
        name = self._known(name)
        now.requests[name] += 1
        if met:
            now.met[name] += 1
            now.tokens[name] += tokens

    def tallies(self, now_s: float) -> dict[str, Tally]:
        """Of each class that had a request in the window."""
        told: dict[str, Tally] = {}
        for part in self._slices:
            if part.number <= (now_s - WINDOW_S) // SLICE_S:
                continue
            for name, count in part.requests.items():
                tally = told.setdefault(name, Tally())
                tally.requests += count
                tally.met += part.met[name]
                tally.tokens += part.tokens[name]
        return told

    def window_s(self, now_s: float) -> float:
        """How long the window is: since the first request, if that is less."""
        return WINDOW_S if self._first_s is None else min(WINDOW_S, max(LEAST_S, now_s - self._first_s))

    def _at(self, now_s: float) -> _Slice:
        number = int(now_s // SLICE_S)
        if not self._slices or self._slices[-1].number != number:
            self._slices.append(_Slice(number))
        self._first_s = now_s if self._first_s is None else self._first_s
        return self._slices[-1]

    def _known(self, name: str) -> str:
        if name not in self._names and len(self._names) >= MAX_CLASSES:
            return OTHER
        self._names.add(name)
        return name
