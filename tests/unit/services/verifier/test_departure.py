"""When a verifier that is to stop gives its requests back."""

from __future__ import annotations

import math
from itertools import pairwise

from services.verifier.departure import FINISH_MS, LOOK_MS, SETTLE_MS, Departure

START = 1000.0


def test_nothing_is_given_back_before_another_verifier_is_there() -> None:
    departure = Departure(START)
    assert not departure.gives_back(math.inf, START + 1e6)
    departure.relieved(START + 1e6)
    assert departure.gives_back(math.inf, START + 1e6)


def test_it_looks_for_another_after_a_while_and_then_now_and_then_until_there_is_one() -> None:
    departure = Departure(START)
    looks = [now for now in range(1000, 2000) if departure.is_time_to_look(float(now))]
    assert looks[0] == START + SETTLE_MS
    assert {later - earlier for earlier, later in pairwise(looks)} == {LOOK_MS}
    departure.relieved(2000.0)
    assert not departure.is_time_to_look(1e9)


def test_what_is_predicted_to_end_in_time_stays_and_goes_when_it_does_not() -> None:
    departure = Departure(START)
    departure.relieved(2000.0)
    assert not departure.gives_back(FINISH_MS, 2000.0)
    assert departure.gives_back(FINISH_MS + 1, 2000.0)
    assert not departure.gives_back(10.0, 2000.0 + FINISH_MS - 10.0)
    assert departure.gives_back(10.0, 2000.0 + FINISH_MS - 9.0)
    assert departure.gives_back(0.1, 2000.0 + FINISH_MS)
