"""The whole of `python -m bench.scaling`, small: its stand-in for the selection, its figures, its refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.report import Outcome
from bench.scaling.__main__ import CPU, RULES, main, run
from bench.scaling.cell import Delays
from bench.scaling.loads import made
from bench.scaling.pace import learn
from bench.scaling.sizing import Fixed
from bench.scaling.verifier import Model
from bench.simulator.machines import hardware_named
from bench.simulator.simulate import simulate
from bench.simulator.systems import system_named

SMALL = [
    "--seconds=90", "--peak=4", "--sizes", "1", "3", "--start=20", "--start-drafter=10", "--max=4"
]  # fmt: skip


def mean(outcomes: tuple[Outcome, ...], figure: str) -> float:
    return float(np.mean([getattr(outcome, figure) or 0.0 for outcome in outcomes]))


def test_the_stand_in_is_as_fast_as_the_real_selection() -> None:
    load = made(40.0, 4.0, 5)
    hardware, spec = hardware_named("llama70b-4xa100"), system_named("adaserve")
    pace = learn(load.head(requests=40), hardware, spec, (0.5, 1.5, 4.0), 1)
    real = simulate(load, hardware, spec, 2).outcomes
    stand_in = run(load, Model(hardware, spec, pace), Fixed(1), Delays()).outcomes
    assert mean(stand_in, "tpot_ms") == pytest.approx(mean(real, "tpot_ms"), rel=0.15)
    assert mean(stand_in, "ttft_ms") == pytest.approx(mean(real, "ttft_ms"), rel=0.25)
    assert mean(stand_in, "attained") == pytest.approx(mean(real, "attained"), abs=0.1)


def test_a_stand_in_for_another_selection_is_noticed() -> None:
    load = made(40.0, 4.0, 5)
    hardware, spec = hardware_named("llama70b-4xa100"), system_named("adaserve")
    slow = learn(load.head(requests=40), hardware.with_draft_step(40.0), spec, (1.0,), 1)
    real = simulate(load, hardware, spec, 2).outcomes
    stand_in = run(load, Model(hardware, spec, slow), Fixed(1), Delays()).outcomes
    assert mean(stand_in, "tpot_ms") > 1.3 * mean(real, "tpot_ms")


def test_both_sides_come_from_one_run_and_are_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--json", "--plot", str(tmp_path / "scaling.svg")]) == 0
    lines = {told["sizing"]: told for told in map(json.loads, capsys.readouterr().out.splitlines())}
    assert list(lines) == ["fixed, 1", "fixed, 3", RULES, CPU]
    assert lines["fixed, 1"]["attained"] < lines["fixed, 3"]["attained"]
    assert lines[RULES]["most_verifiers"] > 1
    assert (tmp_path / "scaling.svg").stat().st_size > 10_000
    assert main([*SMALL]) == 0
    assert f"| **{RULES}** |" in capsys.readouterr().out


def test_a_trace_that_is_not_there_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--traces", str(tmp_path), "--loads", "day"]) == 2
    assert "azure_conv.csv.gz" in capsys.readouterr().err


def test_a_trace_of_ones_own_is_a_load_too(capsys: pytest.CaptureFixture[str]) -> None:
    own = "--trace=paper:rps=2,seconds=60,ttft=2000"
    assert main([own, "--sizes", "1", "--start=10", "--max=2", "--json"]) == 0
    assert {json.loads(told)["load"] for told in capsys.readouterr().out.splitlines()} == {"own"}


def test_requests_keep_their_order_under_a_days_rhythm() -> None:
    load = made(100.0, 2.0, 1)
    assert replace(load, name="x").duration_ms <= 100e3
