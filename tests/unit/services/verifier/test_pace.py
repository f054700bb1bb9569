"""The pace that a verifier tells gateways."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.verifier.pace import MEMORY_MS, Pace


def test_before_the_first_step_nothing_is_known() -> None:
    assert set(Pace().describe().values()) == {0.0}


@given(
    step_ms=st.floats(1.0, 200.0),
    gap_ms=st.floats(0.0, 50.0),
    work=st.integers(1, 500),
    favoured=st.integers(1, 9),
)
def test_a_steady_server_is_told_as_it_is(step_ms: float, gap_ms: float, work: int, favoured: int) -> None:
    pace, now = Pace(), 0.0
    pace.stepped(-step_ms - gap_ms, now, work=work, is_decoding=True, favoured=favoured)
    for _ in range(20):
        now += gap_ms + step_ms
        pace.stepped(now - step_ms, now, work=work, is_decoding=True, favoured=favoured)
    assert pace.period_ms == pytest.approx(step_ms + gap_ms)
    assert pace.tokens_per_s == pytest.approx(1000 * work / (step_ms + gap_ms))
    assert pace.favoured_tokens == pytest.approx(favoured)


def test_time_without_work_does_not_count() -> None:
    pace = Pace()
    pace.stepped(0.0, 10.0, work=5, is_decoding=True, favoured=1)
    pace.idle()
    pace.stepped(90_000.0, 90_010.0, work=5, is_decoding=True, favoured=1)
    assert pace.period_ms == pytest.approx(10.0)


def test_prefill_between_two_tokens_lengthens_the_period_and_is_work() -> None:
    pace = Pace()
    for start in (0.0, 30.0):
        pace.stepped(start, start + 20.0, work=60, is_decoding=False, favoured=None)
        pace.stepped(start + 20.0, start + 30.0, work=4, is_decoding=True, favoured=2)
    assert pace.period_ms == pytest.approx(30.0)
    assert pace.favoured_tokens == pytest.approx(2.0)
    assert pace.tokens_per_s == pytest.approx(1000 * 64 / 30, rel=0.01)


def test_a_stall_is_no_pace() -> None:
    pace = Pace()
    for start in range(0, 100, 10):
        pace.stepped(start, start + 10.0, work=4, is_decoding=True, favoured=1)
    pace.stepped(100.0, 5_000.0, work=4, is_decoding=True, favoured=1)
    assert pace.period_ms == pytest.approx(10.0)


def test_an_old_load_is_forgotten() -> None:
    pace, now = Pace(), 0.0
    for _ in range(100):
        pace.stepped(now, now + 100.0, work=1, is_decoding=True, favoured=1)
        now += 100.0
    for _ in range(int(5 * MEMORY_MS / 10)):
        pace.stepped(now, now + 10.0, work=1, is_decoding=True, favoured=1)
        now += 10.0
    assert pace.period_ms == pytest.approx(10.0, rel=0.1)


def test_steps_without_trees_do_not_tell_what_a_tree_brings() -> None:
    pace = Pace()
    pace.stepped(0.0, 10.0, work=4, is_decoding=True, favoured=3)
    for start in range(10, 500, 10):
        pace.stepped(start, start + 10.0, work=1, is_decoding=True, favoured=None)
    assert pace.favoured_tokens == pytest.approx(3.0)
    assert pace.period_ms == pytest.approx(10.0)


def test_what_a_tree_brought_long_ago_is_forgotten() -> None:
    pace = Pace()
    for favoured in [4] * 300 + [2] * 600:
        pace.stepped(0.0, 10.0, work=4, is_decoding=True, favoured=favoured)
    assert pace.favoured_tokens == pytest.approx(2.0, rel=0.01)
