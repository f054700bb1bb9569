"""Restart policy: back off while a service ends at once, give up when that does not help."""

from __future__ import annotations

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.restarts import IMMEDIATE_S, MAX_DELAY_S, MAX_IMMEDIATE, RestartPolicy, ServiceFailed, reason

codes = st.sampled_from([0, 1, 3, -signal.SIGKILL, -signal.SIGSEGV])


@given(st.lists(st.tuples(codes, st.floats(0, 100)), max_size=30))
def test_it_gives_up_exactly_after_the_last_of_a_run_of_immediate_ends(ends: list[tuple[int, float]]) -> None:
    policy, in_a_row = RestartPolicy("drafter"), 0
    for count, (code, uptime_s) in enumerate(ends, start=1):
        in_a_row = in_a_row + 1 if uptime_s < IMMEDIATE_S else 0
        if in_a_row == MAX_IMMEDIATE:
            with pytest.raises(ServiceFailed, match="giving up"):
                policy.delay_after(code, uptime_s)
            return
        assert 0 < policy.delay_after(code, uptime_s) <= MAX_DELAY_S
        assert policy.restarts == count


def test_the_delay_doubles_and_falls_back_after_a_long_life() -> None:
    policy = RestartPolicy("drafter")
    assert [policy.delay_after(1, 0.1) for _ in range(3)] == [0.25, 0.5, 1.0]
    assert policy.delay_after(1, IMMEDIATE_S + 1) == 0.25


def test_a_configuration_error_is_not_retried() -> None:
    with pytest.raises(ServiceFailed, match="drafter cannot start with these settings"):
        RestartPolicy("drafter").delay_after(2, 0.5)


def test_reasons_are_words() -> None:
    assert reason(3) == "with exit code 3"
    assert reason(-9) == "by signal SIGKILL"
    assert reason(-250) == "by signal 250"
