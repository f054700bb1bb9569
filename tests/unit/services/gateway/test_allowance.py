"""So many times a second."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.gateway.allowance import Allowance


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def taken(allowance: Allowance, tries: int) -> int:
    return sum(allowance.take() for _ in range(tries))


def test_a_seconds_worth_at_once_then_as_time_goes() -> None:
    clock = Clock()
    allowance = Allowance(5, clock)
    assert taken(allowance, 100) == 5
    clock.now_s += 0.4
    assert taken(allowance, 100) == 2
    clock.now_s += 3_600
    assert taken(allowance, 100) == 5


def test_less_than_one_a_second_still_comes_to_one() -> None:
    clock = Clock()
    allowance = Allowance(0.5, clock)
    assert taken(allowance, 10) == 1
    clock.now_s += 1
    assert taken(allowance, 10) == 0
    clock.now_s += 1
    assert taken(allowance, 10) == 1


@given(st.floats(0.1, 50), st.lists(st.floats(0, 3), max_size=60))
def test_never_more_than_the_rate_and_one_burst(per_s: float, gaps_s: list[float]) -> None:
    clock = Clock()
    allowance, given_out = Allowance(per_s, clock), 0
    for gap_s in gaps_s:
        clock.now_s += gap_s
        given_out += taken(allowance, 3)
    assert given_out <= max(1, per_s) + sum(gaps_s) * per_s + 1e-6
