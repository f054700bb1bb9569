"""What a tree level costs (services/drafter/level_time.py)."""

from __future__ import annotations

from statistics import median

from hypothesis import given
from hypothesis import strategies as st

from services.drafter.level_time import MEMORY, LevelTime

times = st.lists(st.floats(0.0, 1e3), min_size=1, max_size=40)


@given(times)
def test_it_is_the_median_of_recent_levels(observed: list[float]) -> None:
    level_time = LevelTime()
    for ms in observed:
        level_time.observe(24, ms)
    assert level_time.typical_ms(24) == median(observed[-MEMORY:])


def test_before_the_first_level_it_is_zero() -> None:
    assert LevelTime().typical_ms(8) == 0.0


def test_a_size_without_experience_takes_the_nearest() -> None:
    level_time = LevelTime()
    level_time.observe(3, 1.0)
    level_time.observe(96, 5.0)
    assert [level_time.typical_ms(size) for size in (0, 1, 3, 8, 48, 127, 500)] == [1, 1, 1, 1, 5, 5, 5]
