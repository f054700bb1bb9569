"""The autoscaler does what Kubernetes documents (bench/scaling/autoscaler.py)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.scaling.autoscaler import SYNC_S, Autoscaler, wanted
from bench.scaling.rules import Behavior, Direction, Policy, Rules, Trigger

EACH = Trigger(type="AverageValue", target=10.0)
HELD = Trigger(type="Value", target=0.5)


def rules(*, stable_s: int = 0, up: int = 100, down: int = 100, most: int = 10) -> Rules:
    """Percent of the replicas in a minute, each way."""
    return Rules(
        min=1,
        max=most,
        triggers={"each": EACH},
        behavior=Behavior(
            scaleUp=Direction(policies=[Policy(type="Percent", value=up, periodSeconds=60)]),
            scaleDown=Direction(
                stabilizationWindowSeconds=stable_s,
                policies=[Policy(type="Percent", value=down, periodSeconds=60)],
            ),
        ),
    )


@pytest.mark.parametrize(
    ("trigger", "value", "replicas", "ready", "expected"),
    [
        (EACH, 35.0, 2, 2, 4),  # shared out
        (EACH, 35.0, 2, 1, 4),  # whoever is ready
        (EACH, 21.9, 2, 2, 2),  # within a tenth
        (EACH, 0.0, 3, 3, 0),
        (HELD, 1.0, 3, 3, 6),  # in proportion
        (HELD, 1.0, 3, 1, 2),  # to those that are ready, so that what has been ordered is not ordered again
        (HELD, 0.54, 3, 3, 3),
        (Trigger(type="AverageValue", target=0.7), 2.8, 3, 3, 4),
    ],
)
def test_replicas_that_a_metric_asks_for(
    trigger: Trigger, value: float, replicas: int, ready: int, expected: int
) -> None:
    assert wanted(trigger, value, replicas, ready) == expected


def test_the_metric_that_asks_for_most_decides() -> None:
    scaler = Autoscaler(rules().model_copy(update={"triggers": {"each": EACH, "held": HELD}}))
    assert scaler.decide(0.0, 2, 2, {"each": 1.0, "held": 1.0}) == 4
    assert scaler.decide(SYNC_S, 4, 2, {"each": 80.0, "held": 0.1}) == 4  # doubled once in this minute


def test_nothing_is_changed_where_nothing_is_known() -> None:
    assert Autoscaler(rules()).decide(0.0, 3, 3, {}) == 3


def test_it_grows_at_once_but_only_so_far_in_a_minute() -> None:
    scaler = Autoscaler(rules())
    course, replicas = [], 1
    for turn in range(10):
        replicas = scaler.decide(turn * SYNC_S, replicas, replicas, {"each": 1000.0})
        course.append(replicas)
    assert course == [2, 2, 2, 2, 4, 4, 4, 4, 8, 8]


def test_it_shrinks_only_when_the_whole_window_would_have_done_with_less() -> None:
    scaler = Autoscaler(rules(stable_s=60))
    assert scaler.decide(0.0, 4, 4, {"each": 40.0}) == 4
    course = [scaler.decide(turn * SYNC_S, 4, 4, {"each": 10.0}) for turn in range(1, 6)]
    assert course == [4, 4, 4, 1, 1]


def test_what_it_finds_at_first_is_kept_for_the_window() -> None:
    scaler = Autoscaler(rules(stable_s=60))
    assert [scaler.decide(turn * SYNC_S, 4, 4, {"each": 0.0}) for turn in range(6)] == [4, 4, 4, 4, 1, 1]


def test_it_shrinks_no_faster_than_its_policy_lets_it() -> None:
    scaler = Autoscaler(rules(down=50))
    course, replicas = [], 8
    for turn in range(9):
        replicas = scaler.decide(turn * SYNC_S, replicas, replicas, {"each": 0.0})
        course.append(replicas)
    assert course == [4, 4, 4, 4, 2, 2, 2, 2, 1]


@given(st.lists(st.floats(0.0, 1e6), min_size=1, max_size=50), st.integers(1, 20))
def test_bounds_always_hold(values: list[float], most: int) -> None:
    scaler, replicas = Autoscaler(rules(most=most)), 1
    for turn, value in enumerate(values):
        replicas = scaler.decide(turn * SYNC_S, replicas, replicas, {"each": value})
        assert 1 <= replicas <= most
