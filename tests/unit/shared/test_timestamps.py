"""ISO 8601 and durations (shared/timestamps.py)."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import timestamps
from shared.errors import ConfigurationError


@given(st.integers(0, timestamps.MAX_MS))
def test_times_are_read_back(at_ms: int) -> None:
    assert timestamps.at_ms(timestamps.iso(at_ms)) == at_ms


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2027-01-31", datetime(2027, 1, 31, tzinfo=UTC)),
        ("2027-01-31T12:00", datetime(2027, 1, 31, 12, tzinfo=UTC)),
        ("2027-01-31T12:00:00+02:00", datetime(2027, 1, 31, 10, tzinfo=UTC)),
    ],
)
def test_a_time_without_offset_is_utc(text: str, moment: datetime) -> None:
    assert timestamps.at_ms(text) == moment.timestamp() * 1_000


@pytest.mark.parametrize("text", ["", "tomorrow", "31.01.2027", "1969-12-31", "2027-13-01"])
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        timestamps.at_ms(text)


@pytest.mark.parametrize(
    ("text", "ms"),
    [("0s", 0), ("500ms", 500), ("1.5s", 1_500), ("15m", 900_000), ("24h", 86_400_000), ("30d", 2_592_000_000)],
)
def test_durations_have_a_unit(text: str, ms: int) -> None:
    assert timestamps.duration_ms(text) == ms


@pytest.mark.parametrize("text", ["", "24", "h", "-1h", "1w", "1 h", "999999999d"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="such as 24h"):
        timestamps.duration_ms(text)
