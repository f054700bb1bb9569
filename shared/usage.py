"""What tenants have used: the counts that the scripts keep for each hour, summed up for whoever asks. Pure.

A request counts in the hour in which it ended, whichever way, once. Output tokens are committed positions. What
was cached, drafted and accepted is told by the verifiers that served it; what one of them had not told when it
died, a few steps at most, is not in it.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from shared.replies import text


class Period(StrEnum):
    """What a row sums up."""

    HOUR = "hour"
    DAY = "day"


@dataclass(frozen=True, slots=True)
class Usage:
    """Counts of ended requests, in the order in which `usage.lua` keeps them.

    `met` and `missed` count those with a target that were answered, or that failed or expired; a request whose
    client has left it is neither. `steps` are forward passes that brought it tokens.
    """

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    steps: int = 0
    met: int = 0
    missed: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(*map(operator.add, _counts(self), _counts(other)))


MEASURES = tuple(field.name for field in fields(Usage))
_counts = operator.attrgetter(*MEASURES)  # a report adds up a hundred thousand
Row = tuple[datetime, str, str]
"""Beginning, tenant, class."""


def hours(since: datetime, until: datetime) -> list[str]:
    """`yyyymmddhh` in UTC of every hour that begins before `until` and ends after `since`; both aware."""
    first = since.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    count = -((first - until) // timedelta(hours=1))
    return [f"{first + timedelta(hours=number):%Y%m%d%H}" for number in range(count)]


def entries(hour: str, stored: Mapping[bytes, bytes], of: str | None = None) -> Iterator[tuple[Row, Usage]]:
    """One hour's hash: who used how much in it, of one tenant or all. What a later release counts besides is left
    out."""
    start = datetime.strptime(hour, "%Y%m%d%H").replace(tzinfo=UTC)
    for who, counts in stored.items():
        tenant, _, slo_class = text(who).rpartition(":")
        if of not in (None, tenant):
            continue
        numbers = [int(count) for count in counts.split()][: len(MEASURES)]
        yield (start, tenant, slo_class), Usage(*numbers)


def add(rows: dict[Row, Usage], found: Iterable[tuple[Row, Usage]], by: Period) -> None:
    """To the rows of hours or days."""
    for (start, tenant, slo_class), usage in found:
        row = (start if by is Period.HOUR else start.replace(hour=0), tenant, slo_class)
        rows[row] = rows.get(row, Usage()) + usage


def total(rows: Iterable[Usage]) -> Usage:
    """All together."""
    return sum(rows, Usage())
