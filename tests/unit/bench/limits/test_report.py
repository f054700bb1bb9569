"""Comparing runs and telling of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.limits import report as module
from bench.limits.comparison import Change, changes, differing
from bench.limits.report import chosen, read_report, report, unmet
from bench.limits.table import comparison_lines, number, section_lines

MACHINE = {"processor": "a", "cores": 2}


def run(
    value: float, floor: float, unit: str = "ms", machine: dict[str, Any] = MACHINE, **more: Any
) -> dict[str, Any]:
    figure = {
        "name": "turn",
        "unit": unit,
        "value": value,
        "floor": floor,
        "floor_is": "PING",
        "ratio": value / floor,
        **more,
    }
    return {"machine": machine, "sections": {"verifier": {"placement": "", "figures": [figure], "notes": []}}}


def test_on_the_same_machine_values_are_compared() -> None:
    (change,) = changes(run(3.0, 1.0), run(2.0, 1.0))
    assert (change.before, change.now, change.what, change.word) == (2.0, 3.0, "ms", "WORSE")
    assert change.relative == pytest.approx(0.5)


def test_on_another_machine_only_ratios_to_floors_are() -> None:
    other = run(20.0, 10.0, machine={"processor": "b", "cores": 2})
    (change,) = changes(run(3.0, 1.0), other)
    assert (change.before, change.now, change.what) == (2.0, 3.0, "× floor")
    assert differing(MACHINE, other["machine"]) == ["processor"]
    no_floor = run(20.0, 10.0, machine={"processor": "b"})
    del no_floor["sections"]["verifier"]["figures"][0]["ratio"]
    assert changes(run(3.0, 1.0), no_floor) == []


def test_ratios_of_two_sides_are_compared_on_any_machine() -> None:
    (change,) = changes(run(3.0, 1.0, unit="×"), run(2.9, 1.0, unit="×", machine={"processor": "b"}))
    assert (change.before, change.what, change.word) == (2.9, "×", "same")


def test_what_only_one_run_has_is_left_out() -> None:
    assert changes(run(3.0, 1.0), {"machine": MACHINE, "sections": {}}) == []
    assert changes(run(3.0, 1.0), run(3.0, 1.0, unit="µs")) == []


@pytest.mark.parametrize(
    ("before", "now", "at_least", "word"),
    [
        (1.0, 1.1, False, "same"),
        (1.0, 1.3, False, "WORSE"),
        (1.0, 0.7, False, "better"),
        (1.0, 1.3, True, "better"),
    ],
)
def test_more_is_better_of_rates_only(before: float, now: float, at_least: bool, word: str) -> None:
    change = Change(section="s", figure="f", what="ms", before=before, now=now, at_least=at_least)
    assert change.word == word
    (rate,) = changes(run(now, 1.0, unit="GB/s"), run(before, 1.0, unit="GB/s"))
    assert rate.at_least
    (promised,) = changes(run(now, 1.0, unit="×", at_least=True), run(before, 1.0, unit="×"))
    assert promised.at_least


def test_lines_tell_value_floor_and_verdict() -> None:
    section = run(3.0, 1.0, p99=4.0, target=2.5, at_least=False, met=False, goal=1.0)["sections"]["verifier"]
    section["notes"] = ["quiet"]
    (title, line, note) = section_lines("verifier", section | {"placement": "core 0"})
    assert title == "verifier · core 0"
    assert "3.00 ms" in line
    assert "p99 4.00" in line
    assert "3.00 × floor 1.00 (PING)" in line
    assert line.endswith("target ≤ 2.50, goal 1.00: not met")
    assert note == "  quiet"


def test_a_comparison_says_what_machines_differ_in() -> None:
    found = changes(run(3.0, 1.0), run(2.0, 1.0))
    title, line = comparison_lines(found, ["cores"])
    assert "another machine (cores differ): only ratios" in title
    assert "verifier turn" in line
    assert line.endswith("+50 %  WORSE")
    assert comparison_lines([], []) == ["beside the baseline"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (float("nan"), "?"), (123.4, "123"), (12.34, "12.3"), (1.234, "1.23"), (0.1234, "0.123")],
)
def test_numbers_have_three_digits(value: float | None, text: str) -> None:
    assert number(value) == text


def test_reports_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report({"a": {}}, load_before=0.126, quick=True)))
    stored = read_report(path)
    assert stored["sections"] == {"a": {}}
    assert stored["load_per_core_before"] == 0.13
    assert stored["machine"]["cores"] >= 1
    path.write_text("[]")
    with pytest.raises(ValueError, match="is no report of format 1"):
        read_report(path)
    with pytest.raises(ValueError, match=r"gone\.json: cannot be read"):
        read_report(tmp_path / "gone.json")


def test_unmet_targets_are_named() -> None:
    sections = {"a": {"figures": [{"name": "x", "met": False}, {"name": "y", "met": True}, {"name": "z"}]}}
    assert unmet(sections) == ["a: x"]


def test_sections_run_in_the_order_of_the_benchmark() -> None:
    known: dict[str, Any] = {"machine": 1, "codec": 2, "ring": 3}
    assert chosen(None, known) == ["machine", "codec", "ring"]
    assert chosen(["ring", "machine"], known) == ["machine", "ring"]
    with pytest.raises(ValueError, match="--only rings: no such section; there are machine, codec, ring"):
        chosen(["rings"], known)


def test_the_stored_baseline_is_a_report() -> None:
    if module.BASELINE.is_file():
        assert read_report(module.BASELINE)["sections"]
