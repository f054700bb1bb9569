"""Which part of a period a Prometheus server has samples of. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LEAST_SHARE = 0.01  # of the period; below it there is nothing that could stand for it
WHOLE_SHARE = 0.95  # from here on a scrape that failed is not worth a word
_UNITS = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """``seconds`` of the ``period_s`` have samples, the ``first`` and ``last`` at these seconds since 1970."""

    period_s: float
    seconds: float
    first: float
    last: float

    @classmethod
    def of(cls, points: Sequence[float], step_s: float, start: float, end: float) -> Coverage:
        """``points``: those of the regular times, ``step_s`` apart, that there is a sample at, in order."""
        if not points:
            return cls(period_s=end - start, seconds=0.0, first=start, last=start)
        seconds = min(step_s * len(points), end - start)
        return cls(period_s=end - start, seconds=seconds, first=points[0], last=points[-1])

    @property
    def share(self) -> float:
        return self.seconds / self.period_s

    @property
    def is_whole(self) -> bool:
        return self.share >= WHOLE_SHARE

    @property
    def words(self) -> str:
        """`3.0 min of the 7.0 d asked for (0.03 %)`."""
        share = f"{100 * self.share:.2g} %"
        return f"{in_words(self.seconds)} of the {in_words(self.period_s)} asked for ({share})"


def in_words(seconds: float) -> str:
    """In the largest unit that gives at least one."""
    unit, name = next((one for one in _UNITS if seconds >= one[0]), (1.0, "s"))
    return f"{seconds / unit:.1f} {name}" if unit > 1 else f"{seconds:.0f} s"
