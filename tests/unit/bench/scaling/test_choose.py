"""Thresholds to choose, fixed sizes to compare with, and the tables (choose, search, table)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from bench.scaling.choose import CANDIDATES, CHART, Candidate, Pair, candidate, candidates, chosen, table
from bench.scaling.rules import read_rules
from bench.scaling.search import rival, thriftiest
from bench.scaling.sizing import Fixed
from bench.scaling.table import Line, markdown
from shared.errors import ConfigurationError

PAIR = Pair(read_rules("verifier"), read_rules("drafter"))


def made(name: str, attained: float, cost: float) -> Candidate:
    return Candidate(name=name, attained={"a": 99.9, "b": attained}, gpu_hours={"a": 1.0, "b": cost})


def line(attained: float, gpu_hours: float) -> Line:
    return Line(
        sizing="any",
        attained=attained,
        by_category={},
        ttft_p99_s=1.0,
        verifiers=2.0,
        most_verifiers=3,
        in_service=4.0,
        drafters=1.0,
        gpu_hours=gpu_hours,
        num_moved=0,
    )


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ([made("cheaper", 99.1, 8.0)], "cheaper"),
        ([made("hardly cheaper", 99.1, 9.9)], CHART),  # less than three hundredths of what all costs
        ([made("cheap and bad", 98.9, 5.0)], CHART),
        ([made("better and dearer", 99.9, 11.0)], CHART),
    ],
)
def test_the_cheapest_that_attains_the_goal_is_chosen(others: Sequence[Candidate], expected: str) -> None:
    assert chosen([made(CHART, 99.2, 10.0), *others]).name == expected


def test_where_none_attains_the_goal_the_best_in_its_worst_load_is_chosen() -> None:
    assert chosen([made(CHART, 97.0, 10.0), made("other", 98.0, 20.0)]).name == "other"


def test_every_value_is_changed_where_it_counts() -> None:
    named = dict(candidates(PAIR, list(CANDIDATES)))
    assert len(named) == 1 + sum(
        PAIR.value(name) not in values or len(values) - 1 for name, values in CANDIDATES.items()
    )
    assert named[CHART] == PAIR
    assert named["drafter.busy 0.5"].drafter.triggers["busy"].target == 0.5
    assert named["drafter.busy 0.5"].verifier == PAIR.verifier
    assert {one.periodSeconds for one in named["verifier.up 60"].verifier.behavior.scaleUp.policies} == {60}
    assert named["verifier.up 60"].value("verifier.up") == 60.0


def test_a_change_in_words_is_the_same_change_and_a_wrong_one_is_refused() -> None:
    assert PAIR.changed("verifier.running=20") == PAIR.with_value("verifier.running", 20.0)
    for wrong in ("verifier.walking=20", "verifier.running", "verifier.running=0", "verifier.running=many"):
        with pytest.raises(ConfigurationError, match=f"--also {wrong}: must be"):
            PAIR.changed(wrong)


def test_the_charts_values_are_among_those_weighed() -> None:
    assert all(PAIR.value(name) in values for name, values in CANDIDATES.items())


def test_means_over_the_seeds_are_weighed_and_the_chosen_one_is_bold() -> None:
    found = candidate("x", {"a": [line(99.0, 1.0), line(100.0, 3.0)]})
    assert (found.worst, found.cost) == (99.5, 2.0)
    assert list(table([found]))[-1] == "| **x** | 99.5 % | 2.0 | 2.0 |"


@pytest.mark.parametrize(("needed", "verifiers"), [(1, 1), (1, 4), (2, 4), (3, 4), (4, 4), (5, 12), (12, 12)])
def test_the_fewest_drafters_that_do_are_found_by_halving(needed: int, verifiers: int) -> None:
    asked: list[Fixed] = []

    def attained(fixed: Fixed) -> float:
        asked.append(fixed)
        return 99.0 if fixed.drafters >= needed else 98.4

    assert thriftiest(verifiers, attained) == Fixed(verifiers, needed)
    assert len(asked) <= 5


def test_half_a_point_is_given_up_for_fewer_drafters() -> None:
    assert thriftiest(4, lambda fixed: 98.0 + fixed.drafters / 8.0) == Fixed(4, 1)


def rows(*attained: float) -> Mapping[str, Sequence[Line]]:
    fixed = {f"fixed, {index + 1}": [line(each, index + 1.0)] for index, each in enumerate(attained)}
    return {**fixed, CHART: [line(98.0, 1.5)], "HPA": [line(99.0, 0.1)]}


def test_the_rival_is_the_cheapest_fixed_size_that_attains_as_much() -> None:
    assert rival(rows(97.9, 98.0, 99.0), "fixed", CHART) == "fixed, 2"
    assert rival(rows(97.9), "fixed", CHART) is None


def test_a_table_tells_means_and_from_the_least_to_the_most_against_the_reference() -> None:
    told = list(
        markdown({"other": [line(97.0, 2.0), line(99.0, 4.0)], CHART: [line(98.0, 1.0), line(98.5, 2.0)]}, CHART)
    )
    assert "| other | 98.0 % (97.0 to 99.0) | -0.2 (-1.0 to +0.5) |" in told[2]
    assert told[2].endswith("| 3.0 (2.0 to 4.0) | 200 % |")
    assert told[3].startswith(f"| **{CHART}** |")
