"""The whole of `python -m bench.scaling`, small: its stand-in for the selection, its figures, its refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.report import Outcome
from bench.scaling.__main__ import main
from bench.scaling.cell import Delays
from bench.scaling.choose import CHART
from bench.scaling.loads import made
from bench.scaling.pace import learn
from bench.scaling.rules import read_rules
from bench.scaling.runs import Machine, run, setting
from bench.scaling.sizing import Fixed
from bench.scaling.study import CPU
from bench.scaling.verifier import Model
from bench.simulator.machines import hardware_named
from bench.simulator.simulate import simulate
from bench.simulator.systems import system_named
from tests.unit.bench.scaling.test_cell import PACE

SMALL = [
    "--seconds=60", "--peak=4", "--sizes", "1", "3", "--starts", "20", "60", "--start-drafter=10", "--max=4",
    "--first=3", "--seeds=2", "--processes=1",
]  # fmt: skip


def mean(outcomes: tuple[Outcome, ...], figure: str) -> float:
    return float(np.mean([getattr(outcome, figure) or 0.0 for outcome in outcomes]))


def test_the_stand_in_is_as_fast_as_the_real_selection() -> None:
    load = made(40.0, 4.0, 5)
    hardware, spec = hardware_named("llama70b-4xa100"), system_named("adaserve")
    pace = learn(load.head(requests=40), hardware, spec, (0.5, 1.5, 4.0), 1)
    real = simulate(load, hardware, spec, 2).outcomes
    stand_in = run(load, Model(hardware, spec, pace), Fixed(1, 1), Delays()).outcomes
    assert mean(stand_in, "tpot_ms") == pytest.approx(mean(real, "tpot_ms"), rel=0.15)
    assert mean(stand_in, "ttft_ms") == pytest.approx(mean(real, "ttft_ms"), rel=0.25)
    assert mean(stand_in, "attained") == pytest.approx(mean(real, "attained"), abs=0.1)


def test_a_stand_in_for_another_selection_is_noticed() -> None:
    load = made(40.0, 4.0, 5)
    hardware, spec = hardware_named("llama70b-4xa100"), system_named("adaserve")
    slow = learn(load.head(requests=40), hardware.with_draft_step(40.0), spec, (1.0,), 1)
    real = simulate(load, hardware, spec, 2).outcomes
    stand_in = run(load, Model(hardware, spec, slow), Fixed(1, 1), Delays()).outcomes
    assert mean(stand_in, "tpot_ms") > 1.3 * mean(real, "tpot_ms")


def test_the_real_selection_can_run_in_a_whole_cell() -> None:
    load = made(20.0, 6.0, 5)
    machine = Machine(real=True)
    real = setting("made", load, machine, 1).model()
    learned = replace(real, text=None)
    both = [run(load, each, Fixed(2, 1), Delays()).outcomes for each in (real, learned)]
    tpot_ms, learned_ms = (mean(each, "tpot_ms") for each in both)
    assert learned_ms == pytest.approx(tpot_ms, rel=0.2)
    assert [one.tokens for one in both[0]] == [one.tokens for one in both[1]]
    alone = run(load, real, Fixed(2, 2), Delays()).outcomes
    assert mean(alone, "tpot_ms") < tpot_ms, "both verifiers ask the same drafter"
    plain = run(load, real, Fixed(2, 0), Delays()).outcomes
    assert mean(plain, "tpot_ms") > 1.3 * mean(alone, "tpot_ms")


def test_a_system_without_our_selection_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--real", "--system=vllm", "--seeds=1"]) == 2
    assert "--system vllm" in capsys.readouterr().err


def test_both_sides_come_from_one_run_and_are_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--also", "verifier.running=2", "--json", "--plot", str(tmp_path / "scaling.svg")]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["seed"] for line in told] == [1, 2] * (len(told) // 2)
    lines = {line["case"]: line for line in told}
    few, many, *others = lines
    assert [few, many[:8], *others] == [
        "fixed, 1 + 1",
        "fixed, 3",
        CHART,
        "the same, a start takes 60 s",
        "and scaleUp waits 60 s",
        "with verifier.running=2",
        CPU,
    ]
    assert lines[few]["attained"] < lines[many]["attained"]
    assert lines[CHART]["most_verifiers"] > 1
    assert (tmp_path / "scaling.svg").stat().st_size > 10_000


@pytest.fixture
def _known_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is learned, which takes seconds."""
    monkeypatch.setattr("bench.scaling.runs.pace_of", lambda *_: PACE)


@pytest.mark.usefixtures("_known_pace")
def test_the_table_names_the_fixed_size_of_equal_attainment(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--seeds=1"]) == 0
    shown = capsys.readouterr().out
    assert f"| **{CHART}** |" in shown
    assert "that attains as much: fixed, 3 + " in shown


@pytest.mark.usefixtures("_known_pace")
def test_other_processes_do_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    told = []
    for processes in "12":
        assert main([*SMALL, "--starts=20", "--json", f"--processes={processes}"]) == 0
        told.append(capsys.readouterr().out)
    assert told[0] == told[1]


@pytest.mark.usefixtures("_known_pace")
def test_other_thresholds_are_weighed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    running = read_rules("verifier").triggers["running"].target
    monkeypatch.setattr("bench.scaling.choose.CANDIDATES", {"verifier.running": (1, running)})
    assert main([*SMALL, "--seeds=1", "--choose", "verifier.running"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "| rules | made: attained | GPU-hours | all GPU-hours |"
    assert [line.split(" | ")[0].strip("| *") for line in shown[2:]] == [CHART, "verifier.running 1"]


def test_a_trace_that_is_not_there_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--traces", str(tmp_path), "--loads", "day"]) == 2
    assert "azure_conv.csv.gz" in capsys.readouterr().err


@pytest.mark.usefixtures("_known_pace")
def test_a_trace_of_ones_own_is_a_load_too(capsys: pytest.CaptureFixture[str]) -> None:
    own = "--trace=paper:rps=2,seconds=60,ttft=2000"
    small = ["--sizes", "1", "--starts", "10", "--first=1", "--max=2", "--seeds=1", "--processes=1"]
    assert main([own, *small, "--json"]) == 0
    assert {json.loads(told)["load"] for told in capsys.readouterr().out.splitlines()} == {"own"}


def test_requests_keep_their_order_under_a_days_rhythm() -> None:
    load = made(100.0, 2.0, 1)
    assert replace(load, name="x").duration_ms <= 100e3
