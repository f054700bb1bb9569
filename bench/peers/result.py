"""What the rounds of all contestants say: speeds, paired ratios, equal tokens, and where AdaServe loses. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

PLAIN, SPECULATING = "AdaServe", "AdaServe with speculation"
OURS = (PLAIN, SPECULATING)
TIE = 1e-3  # of a logit: two float32 computations may order two tokens differently that are so close


@dataclass(frozen=True, slots=True)
class Answer:
    """Of one round: a list of token ids for each prompt, and the seconds for all of them together."""

    tokens: list[list[int]]
    seconds: float

    @property
    def speed(self) -> float:
        """Tokens per second, the prompts' prefill within the time."""
        return sum(map(len, self.tokens)) / self.seconds


@dataclass(frozen=True, slots=True)
class Difference:
    """The first one of an answer from plain AdaServe's. ``gap`` is how far the target, stock and in float32, puts
    our token's logit above the other's; infinite where one of them ended early, negative where it was ours."""

    round: int
    prompt: int
    position: int
    ours: int
    other: int
    gap: float

    @property
    def is_tie(self) -> bool:
        return abs(self.gap) <= TIE

    @property
    def verdict(self) -> str:
        if self.is_tie:
            return "a tie"
        return "ITS ERROR: the target prefers ours" if self.gap > 0 else "OUR ERROR: the target prefers the other"


@dataclass(frozen=True, slots=True)
class Spread:
    """Over rounds."""

    median: float
    low: float
    high: float

    def told(self, digits: int) -> str:
        return f"{self.median:.{digits}f} ({self.low:.{digits}f} to {self.high:.{digits}f})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One contestant. ``ahead``: by the name of each of ours, its speed over this one's, paired within rounds."""

    name: str
    speculates: bool
    depth: str | None  # a peer's tokens drafted at a time
    speed: Spread
    ahead: Mapping[str, Spread]
    same: int  # answers, of
    answers: int
    differences: Sequence[Difference]

    @property
    def is_equal(self) -> bool:
        """Whether every difference is a tie; what follows a tie is another text, and not compared."""
        return all(each.is_tie for each in self.differences)

    @property
    def clears_us(self) -> bool:
        """Whether no difference is an error of ours. A peer's own errors are said, and are the peer's."""
        return self.is_equal if self.name in OURS else all(each.gap >= -TIE for each in self.differences)


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """AdaServe's speed over a peer's, at least."""

    ours: str
    peer: str
    least: float
    found: float

    @property
    def is_met(self) -> bool:
        return self.found >= self.least


def spread(values: Sequence[float]) -> Spread:
    """Of at least one value."""
    return Spread(statistics.median(values), min(values), max(values))


def ratios(ours: Sequence[Answer], others: Sequence[Answer]) -> Spread:
    """Our speed over the other's, round by round."""
    return spread([one.speed / other.speed for one, other in zip(ours, others, strict=True)])


def first_difference(ours: Sequence[int], other: Sequence[int]) -> int | None:
    """Where two answers part; an answer that ends early parts at its end."""
    for position, (one, two) in enumerate(zip(ours, other, strict=False)):
        if one != two:
            return position
    return None if len(ours) == len(other) else min(len(ours), len(other))


def goals(rows: Sequence[Row]) -> list[Goal]:
    """Those of a single stream: plainly at least `generate` and 0.9 of OpenVINO, speculating ahead of all."""
    found = []
    for row in rows:
        if row.name in OURS:
            continue
        if not row.speculates and row.name.startswith(("transformers", "OpenVINO")):
            least = 0.9 if row.name.startswith("OpenVINO") else 1.0
            found.append(Goal(ours=PLAIN, peer=row.name, least=least, found=row.ahead[PLAIN].median))
        found.append(Goal(ours=SPECULATING, peer=row.name, least=1.0, found=row.ahead[SPECULATING].median))
    return found


def losses(rows: Sequence[Row]) -> list[str]:
    """A line wherever a peer is faster: plain beside plain, and the best of ours beside each."""
    lines = []
    best = max((row for row in rows if row.name in OURS), key=lambda row: row.speed.median)
    for row in rows:
        if row.name in OURS:
            continue
        sides = [best.name] if row.speculates else list(dict.fromkeys((PLAIN, best.name)))
        for name in sides:
            ratio = row.ahead[name].median
            if ratio < 1.0:
                lines.append(f"{name} loses to {row.name}: {ratio:.2f} of its speed")
    return lines


def table(rows: Sequence[Row]) -> list[str]:
    """In Markdown."""
    head = f"| contestant | tokens/s, median (range) | {PLAIN} ÷ it | {SPECULATING} ÷ it | same answers |"
    lines = [head, "|---|---|---|---|---|"]
    for row in rows:
        depth = "" if row.depth is None else f", depth {row.depth}"
        both = [row.ahead[name].told(2) if name in row.ahead and name != row.name else "" for name in OURS]
        same = f"{row.same} of {row.answers}"
        if row.differences:
            same += ", others part at ties" if row.is_equal else ", OTHERS WRONG"
        lines.append(f"| {row.name}{depth} | {row.speed.told(1)} | {both[0]} | {both[1]} | {same} |")
    return lines


def differences_told(rows: Sequence[Row]) -> list[str]:
    """A line for each answer that is not plain AdaServe's."""
    return [
        f"{row.name}: round {each.round}, prompt {each.prompt} parts at token {each.position}: {each.other} for "
        f"{each.ours}, whose logit is {each.gap:.1e} above -> {each.verdict}"
        for row in rows
        for each in row.differences
    ]


def as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """For machines."""
    return [{**asdict(row), "equal": row.is_equal} for row in rows]
