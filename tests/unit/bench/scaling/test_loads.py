"""Halves of a load, other loads of the same kind, and days (bench/scaling/loads.py)."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from bench.scaling.loads import SHIFT_MS, day, half_of, made, varied
from bench.traces import Trace, TraceRequest, sorted_trace

LOAD = made(600.0, 4.0, 7)


def lengths(trace: Trace) -> Counter[tuple[int, int]]:
    return Counter((request.prompt_tokens, request.output_tokens) for request in trace.requests)


def test_both_halves_are_the_whole_and_share_nothing() -> None:
    first, second = half_of(LOAD, "first"), half_of(LOAD, "second")
    assert lengths(first) + lengths(second) == lengths(LOAD)
    assert first.duration_ms <= LOAD.duration_ms / 2.0
    assert second.requests[0].arrival_ms < 10e3
    assert second.duration_ms == pytest.approx(LOAD.duration_ms / 2.0)


def test_a_half_in_which_nothing_comes_is_refused() -> None:
    alone = Trace(name="alone", requests=LOAD.requests[-1:])
    with pytest.raises(ValueError, match="no requests"):
        half_of(alone, "first")


def test_the_first_seed_is_what_was_recorded_and_each_other_one_is_another_load() -> None:
    assert varied(LOAD, 1) == LOAD
    assert varied(LOAD, 2) == varied(LOAD, 2)
    assert lengths(varied(LOAD, 2)) != lengths(varied(LOAD, 3))


def test_another_seed_keeps_the_rhythm_and_what_comes_in_a_minute() -> None:
    tagged = [
        TraceRequest(
            arrival_ms=request.arrival_ms,
            category="even" if index % 2 else "odd",
            prompt_tokens=1 + int(request.arrival_ms // 60e3),
            output_tokens=2 if index % 2 else 3,
        )
        for index, request in enumerate(LOAD.requests)
    ]
    other = varied(sorted_trace("tagged", tagged), 5)
    assert Counter(one.category for one in other.requests) == Counter(one.category for one in tagged)
    for request in other.requests:
        assert request.output_tokens == (2 if request.category == "even" else 3)
        minute_ms = 60e3 * (request.prompt_tokens - 1)
        assert minute_ms - SHIFT_MS <= request.arrival_ms < minute_ms + 60e3 + SHIFT_MS


def test_a_day_rises_to_its_noon_and_has_every_request_as_often() -> None:
    laid = day(LOAD, hours=1.0)
    counts = np.histogram([request.arrival_ms for request in laid.requests], bins=6, range=(0.0, 3.6e6))[0]
    assert min(counts[2:4]) > 2 * max(counts[0], counts[5])
    assert set(lengths(laid).values()) >= {3}
    assert sum(lengths(laid).values()) == 3 * len(LOAD.requests)
