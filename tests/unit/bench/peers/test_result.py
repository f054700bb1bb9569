from __future__ import annotations

from collections.abc import Sequence

import pytest

from bench.peers.result import (
    PLAIN,
    SPECULATING,
    Answer,
    Difference,
    Row,
    as_json,
    differences_told,
    first_difference,
    goals,
    losses,
    ratios,
    spread,
    table,
)

SPEEDS = {
    PLAIN: 40.0,
    SPECULATING: 60.0,
    "transformers": 36.0,
    "transformers assisted": 50.0,
    "OpenVINO": 44.0,
    "OpenVINO with draft model": 66.0,
    "llama.cpp": 55.0,
}
SPECULATE = (SPECULATING, "transformers assisted", "OpenVINO with draft model")


def row(name: str, speed: float, differences: Sequence[Difference] = ()) -> Row:
    return Row(
        name=name,
        speculates=name in SPECULATE,
        depth="3" if name in SPECULATE[1:] else None,
        speed=spread([speed]),
        ahead={ours: spread([SPEEDS[ours] / speed]) for ours in (PLAIN, SPECULATING)},
        same=5 - len(differences),
        answers=5,
        differences=differences,
    )


ROWS = [row(name, speed) for name, speed in SPEEDS.items()]


def test_the_speed_of_a_batch_is_that_of_all_its_tokens() -> None:
    assert Answer([[1, 2, 3], [4]], 2.0).speed == 2.0


def test_ratios_are_taken_within_rounds() -> None:
    ours = [Answer([[0] * 10], seconds) for seconds in (1.0, 2.0, 4.0)]
    others = [Answer([[0] * 10], seconds) for seconds in (2.0, 4.0, 2.0)]
    found = ratios(ours, others)
    assert (found.median, found.low, found.high) == (2.0, 0.5, 2.0)


@pytest.mark.parametrize(
    ("ours", "other", "at"),
    [([1, 2], [1, 2], None), ([1, 2], [1, 3], 1), ([1, 2, 3], [1, 2], 2), ([], [7], 0), ([4], [5], 0)],
)
def test_where_two_answers_part(ours: list[int], other: list[int], at: int | None) -> None:
    assert first_difference(ours, other) == at


def test_goals_are_those_of_the_issue() -> None:
    found = {(goal.ours, goal.peer): goal for goal in goals(ROWS)}
    assert found[PLAIN, "transformers"].least == 1.0
    assert found[PLAIN, "transformers"].is_met
    assert found[PLAIN, "OpenVINO"].least == 0.9
    assert found[PLAIN, "OpenVINO"].is_met  # 0.909
    assert not found[SPECULATING, "OpenVINO with draft model"].is_met
    assert (PLAIN, "llama.cpp") not in found
    assert {peer for ours, peer in found if ours == SPECULATING} == set(SPEEDS) - {PLAIN, SPECULATING}


def test_a_goal_is_missed_just_below_its_least() -> None:
    rows = [row(PLAIN, 40.0), row(SPECULATING, 60.0), row("OpenVINO", 40.0 / 0.89), row("transformers", 40.1)]
    assert [goal.is_met for goal in goals(rows) if goal.ours == PLAIN] == [False, False]


def test_every_loss_is_said_and_nothing_else() -> None:
    assert losses(ROWS) == [
        f"{PLAIN} loses to OpenVINO: 0.91 of its speed",
        f"{SPECULATING} loses to OpenVINO with draft model: 0.91 of its speed",
        f"{PLAIN} loses to llama.cpp: 0.73 of its speed",
    ]
    assert losses([each for each in ROWS if each.name in (PLAIN, SPECULATING, "transformers")]) == []


def test_the_best_of_ours_is_set_beside_plain_peers_too() -> None:
    rows = [row(PLAIN, 40.0), row(SPECULATING, 30.0), row("transformers assisted", 50.0)]
    assert losses(rows) == [f"{PLAIN} loses to transformers assisted: 0.80 of its speed"]


def test_a_difference_is_a_tie_only_where_the_logits_nearly_are_equal() -> None:
    tied = Difference(0, 0, 3, ours=5, other=6, gap=2e-5)
    wrong = Difference(1, 2, 4, ours=5, other=6, gap=0.3)
    ended = Difference(1, 2, 4, ours=-1, other=-1, gap=float("inf"))
    assert tied.is_tie
    assert not wrong.is_tie
    assert not ended.is_tie
    assert row("OpenVINO", 44.0, [tied]).is_equal
    assert not row("OpenVINO", 44.0, [tied, wrong]).is_equal


def test_whose_error_a_difference_is() -> None:
    gaps = {"theirs": 0.3, "ours": -0.3, "tie": 2e-5, "we ended": -float("inf"), "it ended": float("inf")}
    found = {name: Difference(0, 0, 1, ours=5, other=6, gap=gap) for name, gap in gaps.items()}
    clears = {name: row("OpenVINO", 44.0, [each]).clears_us for name, each in found.items()}
    assert clears == {"theirs": True, "ours": False, "tie": True, "we ended": False, "it ended": True}
    assert "OUR ERROR" in found["ours"].verdict
    assert not row(SPECULATING, 60.0, [found["theirs"]]).clears_us  # both are ours
    assert row(SPECULATING, 60.0, [found["tie"]]).clears_us


def test_the_table_says_speeds_ratios_depth_and_answers() -> None:
    wrong = Difference(1, 0, 4, ours=5, other=6, gap=0.3)
    lines = table([ROWS[0], ROWS[1], row("OpenVINO with draft model", 66.0, [wrong])])
    assert lines[2] == "| AdaServe | 40.0 (40.0 to 40.0) |  | 1.50 (1.50 to 1.50) | 5 of 5 |"
    assert lines[4].startswith("| OpenVINO with draft model, depth 3 | 66.0")
    assert lines[4].endswith("| 0.91 (0.91 to 0.91) | 4 of 5, OTHERS WRONG |")
    assert differences_told([row("OpenVINO", 44.0, [wrong])]) == [
        "OpenVINO: round 1, prompt 0 parts at token 4: 6 for 5, whose logit is 3.0e-01 above -> "
        "ITS ERROR: the target prefers ours"
    ]


def test_json_has_every_figure() -> None:
    (told,) = as_json([row("transformers assisted", 50.0)])
    assert told["name"] == "transformers assisted"
    assert told["speed"] == {"median": 50.0, "low": 50.0, "high": 50.0}
    assert told["ahead"][SPECULATING]["median"] == 1.2
    assert told["equal"] is True
