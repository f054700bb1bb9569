"""Times as people give them: `24h` ago, or a date; and as a report tells them. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from shared.errors import ConfigurationError

_UNITS = {"m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_AGO = re.compile(r"(\d{1,6}(?:\.\d+)?)([mhdw])")


def moment(text: str, now: float, option: str) -> float:
    """Seconds since 1970 of `24h` (before now) or of an ISO date or time, UTC without a zone.

    Raises ConfigurationError naming the option.
    """
    if match := _AGO.fullmatch(text.strip()):
        return now - float(match[1]) * _UNITS[match[2]]
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ConfigurationError(
            f"{option} {text!r}: neither a time ago such as 24h or 7d, nor a date such as 2026-01-31T08:00"
        ) from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def clock(at: float) -> str:
    """`2026-01-31 08:00`, UTC, of seconds since 1970."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")
