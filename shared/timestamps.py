"""Points in time and durations as people write them: ISO 8601, and `24h`. Pure; whoever asks brings the time."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from shared.errors import ConfigurationError

MAX_MS = 253_402_300_799_000  # the last second of the year 9999
MAX_DURATION_MS = 100 * 366 * 86_400_000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(ms|s|m|h|d)", re.ASCII)


def iso(at_ms: int) -> str:
    """UTC to the second, or to the millisecond where there are any: `2027-01-31T12:00:00Z`."""
    moment = _EPOCH + timedelta(milliseconds=at_ms)
    text = moment.isoformat(timespec="milliseconds" if at_ms % 1_000 else "seconds")
    return text.replace("+00:00", "Z")


def at_ms(text: str) -> int:
    """ms since the epoch of an ISO 8601 date or time; without an offset it is UTC. Raises ConfigurationError."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(
            f"{text[:64]!r} is no ISO 8601 time, such as 2027-01-31 or 2027-01-31T12:00:00Z"
        ) from None
    return of_datetime(moment)


def of_datetime(moment: datetime) -> int:
    """ms since the epoch; without an offset it is UTC. Raises ConfigurationError outside 1970 to 9999."""
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    found = (aware - _EPOCH) // timedelta(milliseconds=1)
    if not 0 <= found <= MAX_MS:
        raise ConfigurationError(f"{moment.isoformat()} is not between the years 1970 and 9999")
    return found


def duration_ms(text: str) -> int:
    """ms of a number with its unit: `500ms`, `90s`, `15m`, `24h`, `30d`. Raises ConfigurationError."""
    match = _DURATION.fullmatch(text)
    found = -1 if match is None else round(float(match[1]) * _UNITS_MS[match[2]])
    if not 0 <= found <= MAX_DURATION_MS:
        raise ConfigurationError(
            f"{text[:64]!r} is no duration from 0s to 36600d; write a number with ms, s, m, h or d, such as 24h"
        )
    return found
