"""Which silence comes from which strike."""

from __future__ import annotations

from tests.faults.load import Stall
from tests.faults.strikes import STALL_GOALS_S, Strike, missed, stalls_from, told

STRIKES = [
    Strike("verifier", "killed", 10.0),
    Strike("gateway", "killed", 20.0),
    Strike("verifier", "killed", 20.5),
]


def test_a_silence_is_of_the_kind_that_alone_was_struck_in_it() -> None:
    stalls = [Stall(1.5, 11.0), Stall(0.5, 9.9), Stall(3.0, 21.0), Stall(0.4, 20.2), Stall(0.3, 10.5)]
    assert stalls_from("verifier", STRIKES, stalls) == [0.3, 1.5]
    assert stalls_from("gateway", STRIKES, stalls) == [0.4]
    assert stalls_from("drafter", STRIKES, stalls) == []


def test_a_goal_is_missed_by_its_own_kind_only() -> None:
    goal = STALL_GOALS_S["verifier"]
    assert missed(STRIKES, [Stall(goal + 0.1, 10.5), Stall(goal + 5.0, 22.0)]) == [
        f"verifier: stall p99 {goal + 0.1:.2f} s, goal {goal:.2f} s"
    ]
    assert missed(STRIKES, [Stall(goal + 0.1, 10.5)], prefill_s=0.2) == []
    assert missed(STRIKES, [Stall(goal - 0.1, 10.5)]) == []


def test_what_is_told_counts_deeds_and_figures() -> None:
    first, second = told(STRIKES, [Stall(1.5, 11.0)])
    assert first == "gateway killed: 1, verifier killed: 2"
    assert second == "verifier: 1 stalls from it alone, p50 1.50 s, p99 1.50 s, longest 1.50 s"
