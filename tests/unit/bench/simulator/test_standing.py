"""Goals of the comparison with other systems (bench/simulator/standing.py)."""

from __future__ import annotations

from bench.report import Outcome, Report
from bench.simulator.ablation import VARIANTS
from bench.simulator.standing import CAPPED, FIXED, OURS, PAPER, TUNED, shortfalls
from bench.simulator.systems import system_named


def report(system: str, attained: int, first_ms: float = 100.0) -> Report:
    """Of 1,000 requests so many attained, in each of two runs."""
    run = [
        Outcome(
            category="c",
            arrival_ms=0.0,
            first_ms=first_ms,
            last_ms=first_ms + 100.0,
            tokens=11,
            target_ms=20.0 if index < attained else 5.0,
        )
        for index in range(1000)
    ]
    return Report(trace="t", hardware="h", system=system, runs={1: run, 2: run})


def standing(**others: Report) -> dict[str, Report]:
    return {OURS: report(OURS, 950), **{each.system: each for each in others.values()}}


def test_ahead_of_all_misses_nothing() -> None:
    assert shortfalls(standing(a=report(PAPER, 900), b=report(FIXED[0], 950), c=report(CAPPED, 500, 90.0))) == []


def test_a_fixed_budget_must_not_be_ahead_and_others_by_a_point_at_most() -> None:
    assert shortfalls(standing(a=report(FIXED[0], 953))) == [
        f"behind the fixed budget of {FIXED[0]} by 0.30 points"
    ]
    assert shortfalls(standing(a=report("sarathi", 955), b=report(TUNED[0], 959))) == []
    assert shortfalls(standing(a=report("sarathi", 965))) == ["behind sarathi by 1.50 points"]


def test_first_tokens_may_be_a_fifth_later_than_sarathis() -> None:
    assert shortfalls(standing(a=report(CAPPED, 100, 84.0))) == []
    assert shortfalls(standing(a=report(CAPPED, 100, 50.0))) == [f"first tokens 2.00 times as late as {CAPPED}'s"]


def test_every_system_and_variant_that_is_compared_exists() -> None:
    for name in (*FIXED, *TUNED, *VARIANTS.values()):
        assert system_named(name).name == name
