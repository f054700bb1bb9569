"""docs/autoscaling.md: every trigger and number of its table is the chart's, and its commands are there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from bench.scaling.__main__ import parser
from bench.scaling.rules import Trigger, read_rules
from shared.signals import SERVICES
from tests.unit.deploy.promql import ROOT

PAGE = ROOT / "docs/autoscaling.md"
NUMBER = r"(\d+(?:\.\d+)?)"
TARGET = re.compile(rf"{NUMBER}( %| ms)?(?: (?:a replica|of the request))?(?:, asks for (.+) at most)?")
CEILINGS = {None: None, "twice as many": 2.0, "a quarter more": 1.25}


class Row(NamedTuple):
    """A line of the table of triggers."""

    service: str
    trigger: str
    target: str

    @property
    def is_per_replica(self) -> bool:
        return "a replica" in self.target


def rows(text: str) -> Iterator[Row]:
    """Under "Which metric, and why"; an empty first cell repeats the service above."""
    section = text.split("## Which metric, and why\n", 1)[1].split("\n## ", 1)[0]
    service = ""
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and len(cells) == 4 and (name := re.match(r"`(\w+)`", cells[1])):
            service = cells[0] or service
            yield Row(service, name[1], cells[2])


def complaints(row: Row, trigger: Trigger) -> list[str]:
    """What the row says otherwise than the chart."""
    found = TARGET.fullmatch(row.target)
    if found is None:
        return [f"{row.target!r} is no target"]
    number = (
        float(found[1]) / {None: 1.0, " ms": 1e3, " %": 1.0 if trigger.type == "Utilization" else 100.0}[found[2]]
    )
    faults = (
        [] if number == pytest.approx(trigger.target) else [f"{row.target!r}: the chart has {trigger.target:g}"]
    )
    if row.is_per_replica != (trigger.type == "AverageValue"):
        faults.append(f"{row.target!r}: the chart's type is {trigger.type}")
    factor = CEILINGS[found[3]]
    ceiling = float("inf") if factor is None else factor * trigger.target
    return (
        faults if ceiling == pytest.approx(trigger.ceiling) else [*faults, f"asks for {trigger.ceiling:g} at most"]
    )


TEXT = PAGE.read_text(encoding="utf-8")
RULES = {service: read_rules(service).triggers for service in SERVICES}


def test_every_trigger_of_the_chart_has_its_line_and_no_other() -> None:
    told = [(row.service, row.trigger) for row in rows(TEXT)]
    assert sorted(told) == sorted((service, name) for service, triggers in RULES.items() for name in triggers)


@pytest.mark.parametrize("row", [*rows(TEXT)], ids=lambda row: f"{row.service}-{row.trigger}")
def test_a_line_says_what_the_chart_has(row: Row) -> None:
    assert complaints(row, RULES[row.service][row.trigger]) == []


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        (Row("verifier", "running", "15 a replica"), "the chart has 8"),
        (Row("verifier", "running", "14"), "the chart's type is AverageValue"),
        (Row("verifier", "waiting", "3"), "asks for 6 at most"),
        (Row("verifier", "attainment", "5 %, asks for a quarter more at most"), "the chart has 0.1"),
        (Row("selector", "queueWait", "20 ms"), "the chart has 0.01"),
        (Row("gateway", "cpu", "60 % of the request"), "the chart has 70"),
        (Row("gateway", "streams", "@STREAMS@"), "is no target"),
    ],
)
def test_a_line_that_says_otherwise_is_noticed(row: Row, fault: str) -> None:
    assert any(fault in each for each in complaints(row, RULES[row.service][row.trigger]))


def test_the_times_of_scaling_are_the_charts() -> None:
    section = TEXT.split("## Up at once, down slowly\n", 1)[1].split("\n## ", 1)[0]
    verifier, drafter = read_rules("verifier").behavior, read_rules("drafter").behavior
    assert {policy.periodSeconds for policy in verifier.scaleUp.policies} == {
        int(one) for one in told(r"\((\d+) s;", section)
    }
    assert {policy.periodSeconds for policy in drafter.scaleUp.policies} == {60}, "'may double every minute'"
    assert verifier.scaleDown.stabilizationWindowSeconds == 300, "'all of the last five minutes'"
    assert [(one.type, one.value, one.periodSeconds) for one in verifier.scaleDown.policies] == [("Pods", 1, 60)]


def told(pattern: str, text: str) -> list[str]:
    """Every match's group; at least one, so that a page that says nothing of it is noticed."""
    found = re.findall(pattern, text)
    assert found, pattern
    return found


def test_the_options_that_the_page_names_are_there() -> None:
    commands = told(r"(?:make scaling ARGS=\"|python -m bench\.scaling )([^\"`\n]*)", TEXT)
    named = {option for command in commands for option in re.findall(r"--[a-z-]+", command)}
    assert named <= {option for action in parser()._actions for option in action.option_strings}


LEFT = re.compile(r"@{1,2}[A-Z][A-Z_]*@{1,2}|^[A-Z][A-Z_]+$|\b(?:TODO|TBD|FIXME|XXX)\b", re.MULTILINE)


@pytest.mark.parametrize(
    "page", [*sorted((ROOT / "docs").rglob("*.md")), *sorted(ROOT.glob("*.md"))], ids=lambda page: page.name
)
def test_no_page_has_a_placeholder_left(page: Path) -> None:
    assert LEFT.findall(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("text", ["| 3 | @WAITING@ |", "@@CAPACITY@@", "as follows:\n\nSIZES\n", "TODO: measure"])
def test_a_placeholder_is_noticed(text: str) -> None:
    assert LEFT.search(text)
