"""Where the marks of a report's plots are, in the units of an SVG: the template only draws them. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.proof.intervals import Interval
from bench.proof.sides import Compared
from bench.proof.timeline import Band, Line
from bench.replay.recording import Event

WIDTH, HEIGHT = 720, 210
LEFT, RIGHT, TOP, BOTTOM = 46, 24, 14, 26
ROW = 30
LABELS = 150  # room for names at the left of rows
NAME = 16  # characters that fit it


@dataclass(frozen=True, slots=True)
class Scale:
    """From a range of values to one of places."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Values outside are drawn at the edge."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 2)


@dataclass(frozen=True, slots=True)
class Mark:
    """Something with words at a place."""

    at: float
    words: str


@dataclass(frozen=True, slots=True)
class Drawn:
    """A line's path, and a rectangle's sides for bands."""

    words: str
    path: str = ""
    start: float = 0.0
    end: float = 0.0


@dataclass(frozen=True, slots=True)
class TimePlot:
    """Lines over time with bands and events, ready to draw. ``words`` tell it to those who do not see it."""

    words: str
    lines: Sequence[Drawn]
    bands: Sequence[Drawn]
    events: Sequence[Mark]
    seams: Sequence[float]
    x_ticks: Sequence[Mark]
    y_ticks: Sequence[Mark]


@dataclass(frozen=True, slots=True)
class Whisker:
    """A value with its interval along a row, and the values of single runs."""

    at: float
    low: float
    high: float
    runs: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """One class: both sides and what was promised."""

    words: str
    y: float
    ours: Whisker | None
    theirs: Whisker | None
    objective: float | None


@dataclass(frozen=True, slots=True)
class RowPlot:
    """A row for each class over a common scale."""

    words: str
    height: float
    rows: Sequence[Row]
    x_ticks: Sequence[Mark]

    @property
    def has_runs(self) -> bool:
        return any(side.runs for row in self.rows for side in (row.ours, row.theirs) if side is not None)


def ticks(low: float, high: float, wished: int = 4) -> list[float]:
    """Round values from at most ``low`` to at least ``high``."""
    span = max(high - low, 1e-9)
    power = 10 ** math.floor(math.log10(span / wished))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if span / (factor * power) <= wished)
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [round(step * number, 10) for number in range(first, last + 1)]


def clock_ticks(seconds: float) -> list[tuple[float, str]]:
    """Round times from 0, in seconds, minutes, hours or days."""
    unit, name, steps = next(one for one in _UNITS if seconds >= 2 * one[0] or one[0] == 1)
    step = next((size for size in steps if seconds / unit / size <= MOST_TIMES), steps[-1])
    return [(at * unit, f"{at} {name}") for at in range(0, int(seconds / unit) + 1, step)]


MOST_TIMES = 7
_UNITS = (
    (86_400, "d", (1, 2, 7, 14, 30, 90, 365)),
    (3_600, "h", (1, 2, 3, 4, 6, 12)),
    (60, "min", (1, 2, 5, 10, 15, 20, 30)),
    (1, "s", (1, 2, 5, 10, 15, 20, 30)),
)


def over_time(
    lines: Sequence[Line],
    bands: Sequence[Band] = (),
    events: Sequence[Event] = (),
    seams: Sequence[float] = (),
    *,
    floor: float = 0.0,
    ceiling: float,
    is_fixed: bool = False,
) -> TimePlot | None:
    """None where no line has a point. The scale begins at ``floor`` at most and ends at ``ceiling`` at least.

    A fixed one has just these, and what lies outside is drawn at its edge.
    """
    values = [value for line in lines for _, value in line.points if value is not None]
    if not values:
        return None
    ends = [at for line in lines for at, _ in line.points] + [band.to_s for band in bands]
    marks = ticks(floor, ceiling) if is_fixed else ticks(min(floor, *values), max(ceiling, *values))
    x = Scale(0.0, max(*ends, 1e-6), LEFT, WIDTH - RIGHT)
    y = Scale(marks[0], marks[-1], HEIGHT - BOTTOM, TOP)
    return TimePlot(
        words="; ".join(_told(line) for line in lines),
        lines=[Drawn(line.name, _path(line, x, y)) for line in lines],
        bands=[Drawn(band.reason, start=x.at(band.from_s), end=x.at(band.to_s)) for band in bands],
        events=[Mark(x.at(one.at_s), one.what) for one in events],
        seams=[x.at(one) for one in seams],
        x_ticks=[Mark(x.at(at), words) for at, words in clock_ticks(x.high)],
        y_ticks=[Mark(y.at(value), f"{value:g}") for value in marks],
    )


def _told(line: Line) -> str:
    known = [value for _, value in line.points if value is not None]
    if not known:
        return f"{line.name}: no figures"
    return f"{line.name}: {known[0]:.3g} at first, {known[-1]:.3g} at last, {min(known):.3g} to {max(known):.3g}"


def _path(line: Line, x: Scale, y: Scale) -> str:
    return " ".join(_strokes(line, x, y))


def _strokes(line: Line, x: Scale, y: Scale) -> Iterator[str]:
    is_down = False
    for at, value in line.points:
        if value is not None:
            # A zero-length stroke shows as a dot where a point stands alone.
            yield f"{'L' if is_down else 'M'}{x.at(at)} {y.at(value)}" + ("" if is_down else "h0")
        is_down = value is not None


def in_rows(rows: Sequence[tuple[str, Compared, float | None]], *, high: float | None = None) -> RowPlot:
    """Names with both sides' intervals and an objective; the scale ends at ``high``, or at the largest value."""
    ends = [
        end
        for _, one, _ in rows
        for side in (one.ours, one.theirs)
        for end in (side.value, side.high)
        if end is not None
    ]
    marks = ticks(0.0, max([*ends, 1e-9]) if high is None else high, 5)
    x = Scale(0.0, marks[-1], LABELS, WIDTH - RIGHT - 8)
    return RowPlot(
        words="; ".join(f"{name}: {_value(one.ours)} with, {_value(one.theirs)} without" for name, one, _ in rows),
        height=TOP + ROW * len(rows) + BOTTOM,
        rows=[
            Row(
                words=name if len(name) <= NAME else f"{name[: NAME - 1]}…",
                y=TOP + ROW * (index + 0.5),
                ours=_whisker(one.ours, one.our_runs, x),
                theirs=_whisker(one.theirs, one.their_runs, x),
                objective=None if objective is None else x.at(objective),
            )
            for index, (name, one, objective) in enumerate(rows)
        ],
        x_ticks=[Mark(x.at(value), f"{value:g}") for value in marks],
    )


def _value(interval: Interval) -> str:
    return "nothing" if interval.value is None else f"{interval.value:.3g}"


def _whisker(interval: Interval, runs: Sequence[float | None], x: Scale) -> Whisker | None:
    """A single run is the value itself."""
    if interval.value is None:
        return None
    low, high = (interval.value if end is None else end for end in (interval.low, interval.high))
    known = [x.at(one) for one in runs if one is not None] if len(runs) > 1 else []
    return Whisker(x.at(interval.value), x.at(low), x.at(high), known)
