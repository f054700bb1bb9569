"""The comparison of systems: their settings, its figures and its curves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.replay.goodput import Targets
from bench.replay.plan import Planned, Server
from bench.report import Outcome, Report
from bench.rival_rounds import Load, offered_tokens_per_s, verdict
from bench.rival_systems import NAMES, system
from bench.rivals import at_rate, describe, main, write
from services.selector.settings import SelectorSettings
from shared.errors import ConfigurationError
from shared.settings import read

SERVER = Server(model="tiny", context=128, chars_per_token=3.0, least_chars_per_token=2.0, zero_load_ms=4.0)


def outcomes(attained: list[bool]) -> list[Outcome]:
    """One request each second, of 11 tokens and a second's length."""
    return [
        Outcome(
            category="c",
            arrival_ms=1_000.0 * index,
            first_ms=1_000.0 * index,
            last_ms=1_000.0 * (index + 1),
            tokens=11,
            target_ms=100.0 if met else 99.0,
        )
        for index, met in enumerate(attained)
    ]


def load(rps: float, **runs: list[list[bool]]) -> Load:
    reports = [
        Report(trace="t", hardware="h", system=name, runs={seed: outcomes(run) for seed, run in enumerate(rounds)})
        for name, rounds in runs.items()
    ]
    return Load(rps=rps, offered=11.0, reports=reports, unequal=[])


verdicts = st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=2, max_size=4)


@given(verdicts)
def test_a_system_does_not_differ_from_itself(rounds: list[list[bool]]) -> None:
    differences = load(1.0, ours=rounds, theirs=rounds).differences()
    points, tokens = differences["theirs"]
    assert (points.mean, points.ci95, tokens.mean, tokens.ci95) == (0.0, 0.0, 0.0, 0.0)


def test_differences_are_taken_round_by_round() -> None:
    both = load(1.0, ours=[[True, True], [True, False]], theirs=[[True, False], [False, False]])
    points, tokens = both.differences()["theirs"]
    assert (points.mean, points.ci95) == (50.0, 0.0)  # always one of two requests more, however the rounds differ
    assert tokens.mean == 5.5
    assert both.best == 75.0
    assert json.loads(json.dumps(both.json()))["differences"]["theirs"]["attainment"] == {
        "mean": 50.0,
        "ci95": 0.0,
    }
    lines = "\n".join(describe(both))
    assert "ours − theirs: attainment +50.0 ± 0.0 points" in lines
    assert "11.0 tokens/s asked for" in lines


def test_the_ceiling_counts_what_is_asked_for_with_a_target() -> None:
    def planned(at_ms: float, targets: Targets) -> Planned:
        body = {"max_tokens": 50}
        return Planned(
            at_ms=at_ms, category="c", targets=targets, body=body, prompt_tokens=1, cut=frozenset[str]()
        )

    run = [planned(0, Targets(tpot_ms=5)), planned(500, Targets()), planned(2_000, Targets(ttft_ms=5))]
    assert offered_tokens_per_s({0: run}) == 50.0
    assert offered_tokens_per_s({0: run[:1]}) == 0.0


@pytest.mark.parametrize("name", [*NAMES, "chain1", "chain8"])
def test_every_system_is_one_that_the_selector_starts_with(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = system(name)
    for variable, value in chosen.selector.items():
        monkeypatch.setenv(f"ADASERVE_{variable}", value)
    settings = read(SelectorSettings)
    if name.startswith("chain"):
        depth = int(name.removeprefix("chain"))
        assert (settings.min_depth, settings.max_depth, settings.max_width) == (depth, depth, 1)
        assert settings.prefill_factor * (settings.budget or 0) == 256
    assert chosen.speculation == (name != "plain")
    assert settings.policy == ("adaserve" if name in ("adaserve", "plain") else "paper")


@pytest.mark.parametrize("name", ["chain0", "chain9", "vllm", ""])
def test_an_unknown_system_is_answered_with_those_there_are(name: str) -> None:
    with pytest.raises(
        ConfigurationError, match=r"there are adaserve, paper, chain4, plain, and chain1 to chain8"
    ):
        system(name)


def test_the_rate_becomes_part_of_the_workloads_name() -> None:
    assert at_rate("paper", 0.5) == "paper:rps=0.5"
    assert at_rate("paper:seconds=9", 4.0) == "paper:seconds=9,rps=4"


@pytest.mark.parametrize(
    "options",
    [["--rounds", "0"], ["--loads", "0"], ["--timeout", "-1"], ["--systems", "x"], ["--workload", "y"]],
)
def test_odd_options_start_nothing(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(options)
    assert ended.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_figures_and_curves_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loads = [load(rps, ours=[[True, True]] * 2, plain=[[True, False]] * 2) for rps in (1.0, 2.0)]
    paths = write(loads, SERVER, "relative:seconds=2", tmp_path / "new")
    assert [path.name for path in paths] == ["rivals.json", "rivals.svg", "rivals.png"]
    found = json.loads(paths[0].read_text())
    assert [entry["rps"] for entry in found["loads"]] == [1.0, 2.0]
    assert "requests that attained their SLO, %" in paths[1].read_text()
    assert paths[2].read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_the_figures_are_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "bench.plots", None)
    assert write([load(1.0, ours=[[True]])], SERVER, "paper", tmp_path) == [tmp_path / "rivals.json"]


def test_the_verdict_names_whom_we_are_below_and_never_ahead_of() -> None:
    good, bad, mixed = [[True] * 8] * 3, [[False] * 8] * 3, [[True] * 8, [False] * 8, [True] * 8]
    won = load(1.0, ours=good, theirs=bad)
    lost = load(2.0, ours=bad, theirs=good)
    noisy = load(3.0, ours=mixed, theirs=good)
    assert verdict([won, noisy]) == []
    assert verdict([noisy]) == ["ahead of theirs at no load"]
    assert verdict([won, lost]) == ["below theirs at 2 requests/s"]
    assert verdict([load(1.0, ours=[[False]], theirs=[[True]])]) == []
