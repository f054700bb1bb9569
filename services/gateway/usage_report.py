"""What GET /admin/usage is asked and how it is told: JSON, or CSV for a spreadsheet. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from services.gateway.errors import invalid
from shared import timestamps
from shared.errors import ConfigurationError
from shared.modes import MAX_NAME
from shared.usage import MEASURES, Period, Row, Usage, add, entries, total

MAX_DAYS = 92
MAX_ROWS = 100_000
DEFAULT = timedelta(days=1)
HEAD = ("start", "tenant", "class", *MEASURES)
HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Wanted:
    """From the hour of `since` to that before `until`, both in UTC; of one tenant, or of all."""

    since: datetime
    until: datetime
    by: Period
    tenant: str | None


def wanted(since: str | None, until: str | None, by: Period, tenant: str | None, now: datetime) -> Wanted:
    """Whole hours; without `until` up to now, without `since` a day. Raises ApiError 400."""
    end = now if until is None else _moment("until", until)
    begin = end - DEFAULT if since is None else _moment("since", since)
    if begin >= end:
        raise invalid("since", f"{_iso(begin)} is not before until, {_iso(end)}")
    if end - begin > timedelta(days=MAX_DAYS):
        raise invalid("since", f"{_iso(begin)} is more than {MAX_DAYS} days before until, {_iso(end)}")
    if tenant is not None and not 1 <= len(tenant) <= MAX_NAME:
        raise invalid("tenant", f"has {len(tenant)} characters; it must have 1 to {MAX_NAME}")
    first = begin.replace(minute=0, second=0, microsecond=0)
    return Wanted(first, first - HOUR * ((first - end) // HOUR), by, tenant)


def collect(rows: dict[Row, Usage], stored: Mapping[str, Mapping[bytes, bytes]], asked: Wanted) -> None:
    """Adds what Redis holds of some hours: work for a thread. Raises ApiError 400 as `check_size` does."""
    for hour, held in stored.items():
        add(rows, entries(hour, held, asked.tenant), asked.by)
        check_size(len(rows), asked.by)


def check_size(num_rows: int, by: Period) -> None:
    """Raises ApiError 400 for more rows than are told at a time."""
    if num_rows > MAX_ROWS:
        hint = "ask by day, " if by is Period.HOUR else "ask "
        raise invalid("by", f"{by.value} makes more than {MAX_ROWS} rows; {hint}for a shorter time or one tenant")


def in_json(asked: Wanted, rows: Mapping[Row, Usage]) -> dict[str, Any]:
    """The answer's JSON, in order of time."""
    return {
        "object": "usage",
        "since": _iso(asked.since),
        "until": _iso(asked.until),
        "by": asked.by.value,
        "rows": [
            {"start": _iso(start), "tenant": tenant, "class": slo_class, **asdict(usage)}
            for (start, tenant, slo_class), usage in sorted(rows.items())
        ],
        "totals": asdict(total(rows.values())),
    }


def in_csv(rows: Mapping[Row, Usage]) -> str:
    """A line of names, then one for each row; as RFC 4180 has it."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(HEAD)
    for (start, tenant, slo_class), usage in sorted(rows.items()):
        writer.writerow([_iso(start), tenant, slo_class, *asdict(usage).values()])
    return text.getvalue()


def _moment(field: str, text: str) -> datetime:
    try:
        return datetime.fromtimestamp(timestamps.at_ms(text) / 1_000, UTC)
    except ConfigurationError as error:
        raise invalid(field, str(error)) from None


def _iso(moment: datetime) -> str:
    return timestamps.iso(timestamps.of_datetime(moment))
