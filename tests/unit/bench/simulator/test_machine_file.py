"""A measured machine in the simulator (bench/simulator/machine_file.py)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.simulator.machines import hardware_named
from bench.simulator.simulate import simulate
from bench.simulator.systems import system_named
from bench.workloads import load_trace
from shared.errors import ConfigurationError

TARGET = {
    "role": "target",
    "budget": 24,
    "fitted": {"tokens": [1, 16, 64], "ms": [4.0, 6.0, 12.0], "context_ms": 0.1, "row_ms": 0.05, "buckets": []},
}
DRAFT = {
    "role": "draft",
    "levels": [
        {"rows": 1, "width": 1, "level_ms": 1.0},
        {"rows": 16, "width": 3, "level_ms": 2.5},
        {"rows": 64, "width": 4, "level_ms": 9.0},
    ],
}


def written(folder: Path, content: Any) -> str:
    path = folder / "mine.json"
    path.write_text(json.dumps(content))
    return str(path)


def test_a_profile_becomes_a_machine_that_serves(tmp_path: Path) -> None:
    machine = hardware_named(written(tmp_path, [TARGET, DRAFT]))
    assert (machine.name, machine.draft_step_ms, machine.budget) == ("mine", 2.5, 24)
    assert machine.zero_load_ms == pytest.approx(4.05)
    done = simulate(load_trace("paper:rps=0.5,seconds=10", 1), machine, system_named("adaserve"), 1)
    assert all(outcome.tokens for outcome in done.outcomes)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([], "role 'target'"),
        ([TARGET], "role 'draft'"),
        ({"role": "target"}, "the file: Input should be a valid"),
        ([{**TARGET, "fitted": {"tokens": [1]}}, DRAFT], "missing"),
        ([{**TARGET, "fitted": [1]}, DRAFT], "fitted: Input should be an object"),
        ([{**TARGET, "budget": -3}, DRAFT], "budget: Input should be greater than or equal to 1 .got -3"),
        ([TARGET, {**DRAFT, "levels": []}], "levels must be at least one"),
        ([TARGET, {**DRAFT, "levels": [1]}], "levels.0: "),
    ],
)
def test_what_is_no_profile_is_refused_by_name(tmp_path: Path, content: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"mine\.json: not a profile.*{words}"):
        hardware_named(written(tmp_path, content))


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigurationError, match="absent"):
        hardware_named("absent.json")
