"""`adaserve simulate` (cli/simulate.py, bench/simulator/sweep.py)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.simulator.sweep import SWEEPS
from bench.workloads import load_trace
from cli.main import app

SMALL = "paper:rps=2.0,seconds=5"


def test_one_json_object_for_each_system() -> None:
    arguments = [
        "simulate",
        "--trace",
        SMALL,
        "--seeds",
        "2",
        "--json",
        "--system",
        "sarathi",
        "--system",
        "adaserve",
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    objects = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    assert [told["system"] for told in objects] == ["sarathi", "adaserve"]
    assert set(objects[0]) == {
        "trace", "hardware", "system", "seeds", "attainment", "goodput_tokens_per_s", "tpot_ms", "ttft_ms",
        "tokens_per_verification", "time_share",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["s.png", "s.svg"])
def test_a_sweep_becomes_a_table_and_a_plot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    short = SWEEPS["fig8"].__class__(label="rate", points=((1.0, SMALL), (2.0, SMALL)), files={})
    monkeypatch.setattr("bench.simulator.sweep.SWEEPS", {"short": short})
    arguments = [
        "simulate",
        "--sweep",
        "short",
        "--seeds",
        "1",
        "--system",
        "adaserve",
        "--plot",
        str(tmp_path / name),
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "adaserve" in result.output
    assert (tmp_path / name).stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "either --trace or --sweep"),
        (["--trace", SMALL, "--sweep", "fig8"], "either --trace or --sweep"),
        (["--trace", SMALL, "--plot", "x.png"], "--plot draws a --sweep"),
        (["--sweep", "fig9"], "fig8"),
        (["--trace", SMALL, "--hardware", "h100"], "llama70b-4xa100"),
        (["--trace", SMALL, "--system", "orca"], "sarathi"),
        (["--trace", "nowhere.csv"], "nowhere.csv"),
        (["--trace", SMALL, "--traces", "."], "--traces goes with a --sweep"),
        (["--sweep", "fig8", "--traces", "/nowhere"], "no such folder"),
        (["--sweep", "fig8", "--plot", "x.pdf"], ".png or .svg"),
        (["--sweep", "fig8", "--plot", "/nowhere/x.png"], "a folder that exists"),
        (["--trace", SMALL, "--system", "adaserve:budget=64"], "cost_aware_budget=false only"),
        (["--trace", SMALL, "--system", "adaserve-paper:budget=0"], "greater than or equal to 1"),
        (["--trace", SMALL, "--system", "adaserve:slo_aware=1"], "valid boolean"),
        (["--trace", SMALL, "--system", "adaserve:slo_aware=false,slo_aware=true"], "given twice"),
    ],
)
def test_odd_choices_are_one_line_that_says_what_there_is(arguments: list[str], words: str) -> None:
    result = CliRunner().invoke(app, ["simulate", *arguments])
    assert result.exit_code != 0
    assert words in result.output


def test_the_table_hides_no_category_that_missed_everything_and_makes_up_no_figure(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    header = "arrival_ms,category,prompt_tokens,output_tokens,tpot_slo_ratio,tpot_slo_ms,prompt_id\n"
    trace.write_text(header + "0,hopeless,10,50,,0.001,a\n1,easy,10,60,,1000,b\n")
    result = CliRunner().invoke(app, ["simulate", "--trace", str(trace), "--seeds", "1", "--system", "sarathi"])
    assert "easy 100.0, hopeless 0.0" in result.stdout
    trace.write_text(header + "0,batch,10,50,,,a\n1,batch,10,60,,,b\n")
    result = CliRunner().invoke(app, ["simulate", "--trace", str(trace), "--seeds", "1", "--system", "sarathi"])
    assert "0.0" not in result.stdout
    assert "None" not in result.stdout


def test_sweeps_are_made_of_workloads_that_exist() -> None:
    for sweep in SWEEPS.values():
        for x, trace in sweep.points:
            assert load_trace(trace, 1).requests, (x, trace)
