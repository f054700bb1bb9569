"""What an iteration costs besides its two models (services/verifier/overhead.py)."""

from __future__ import annotations

from statistics import median

from hypothesis import given
from hypothesis import strategies as st

from services.verifier.overhead import MEMORY, Overhead


@given(st.lists(st.tuples(st.floats(0.0, 1e3), st.floats(0.0, 1e3), st.floats(0.0, 1e3)), max_size=60))
def test_it_is_the_median_of_what_is_neither_drafting_nor_forward(
    iterations: list[tuple[float, float, float]],
) -> None:
    overhead = Overhead()
    for period, draft, forward in iterations:
        overhead.answered(100.0, draft)
        overhead.committed(100.0 + period, forward)
    rest = [max(0.0, 100.0 + period - 100.0 - draft - forward) for period, draft, forward in iterations]
    assert overhead.typical_ms == (median(rest[-MEMORY:]) if rest else 0.0)


def test_a_step_without_an_answer_is_no_iteration() -> None:
    overhead = Overhead()
    overhead.answered(0.0, 1.0)
    overhead.committed(10.0, 5.0)
    overhead.committed(1000.0, 5.0)
    assert overhead.typical_ms == 4.0


def test_an_endless_draft_time_is_no_overhead() -> None:
    overhead = Overhead()
    overhead.answered(0.0, float("inf"))
    overhead.committed(10.0, 5.0)
    assert overhead.typical_ms == 0.0
