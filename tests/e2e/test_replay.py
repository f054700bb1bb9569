"""`adaserve replay` and the comparison of rivals on the running system: figures are those of the server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bench import rivals
from bench.introduction import Replayed
from bench.local import LocalStack
from bench.replay.recording import load
from cli.main import app
from tests.effort import heavy

# Twelve requests of which the summaries have all the time of the world and the chats next to none.
TRACE = "relative:rps=2,seconds=6,lengths=0.1,coding=8,chatbot=0.5,summarization=1000"


def judged(stack: LocalStack) -> tuple[int, int]:
    """Met and missed of all that was used until now."""
    found = json.loads(CliRunner().invoke(app, ["usage", "--json", "--url", stack.url]).stdout)["totals"]
    return found["met"], found["missed"]


def test_a_replays_figures_equal_the_servers_own(stack: LocalStack, tmp_path: Path) -> None:
    met, missed = judged(stack)
    result = CliRunner().invoke(
        app,
        [
            *("replay", "--trace", TRACE, "--url", stack.url, "--json", "--seed", "1"),
            *("--zero-load-ms", str(stack.zero_load_ms())),
            *("--metrics", f"http://127.0.0.1:{stack.ports['drafter']}/metrics"),
            *("--metrics", f"http://127.0.0.1:{stack.ports['verifier']}/metrics"),
            *("--save", str(tmp_path / "replay.json")),
        ],
    )
    assert result.exit_code == 0, result.output
    report = json.loads(result.output)
    assert Replayed.model_validate(report).replay.tally[0].equal  # `adaserve poc` reads it
    (tally,) = report["replay"]["tally"]
    assert report["replay"]["failures"] == {}
    assert tally["client"] == tally["server"]
    assert tally["server"]["judged"] == report["replay"]["requests"] == 12
    assert 0 < tally["server"]["attained"] < 12
    met, missed = (after - before for after, before in zip(judged(stack), (met, missed), strict=True))
    assert (met, met + missed) == (tally["server"]["attained"], 12)  # usage, judged by the scripts
    assert report["attainment"]["by_category"]["summarization"] == 100.0
    tokens = report["tokens_per_verification"]
    assert tokens is None or tokens >= 1.0  # None where a busy machine made every step a plain one
    assert report["time_share"]["verification"] > 0
    assert report["ttft_ms"]["p50"] <= report["replay"]["seen_by_client"]["ttft_ms"]["p50"]
    _is_reported(tmp_path, report)


def _is_reported(folder: Path, report: Any) -> None:
    """The saved replay gives the same figures, and counted the verifier's own tokens."""
    (run,) = load(folder / "replay.json").runs
    assert run.samples[-1].values["committed"] == sum(one.tokens for one in run.requests)
    options = ["--replay", str(folder / "replay.json"), "--out", str(folder / "report.html"), "--json"]
    figures = json.loads(CliRunner().invoke(app, ["report", *options]).stdout)
    assert figures["total"]["attainment"]["ours"]["value"] == pytest.approx(report["attainment"]["mean"], abs=1e-3)
    assert figures["work"]["target_s"] > 0
    assert (folder / "report.html").exists()


@heavy
def test_rivals_are_compared_on_one_stack(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workload = "relative:seconds=2,lengths=0.1,coding=1000,chatbot=1000,summarization=1000"
    options = ["--loads", "2", "--rounds", "1", "--workload", workload, "--out", str(tmp_path), "--json"]
    assert rivals.main(["--systems", "chain3", "plain", *options]) == 0
    (load,) = json.loads(capsys.readouterr().out)
    chain, plain = load["reports"]
    assert (chain["system"], plain["system"]) == ("chain3", "plain")
    assert chain["tokens_per_verification"] >= 1.0
    assert plain["tokens_per_verification"] is None
    assert load["differences"]["plain"]["attainment"]["mean"] == 0.0
    assert (tmp_path / "rivals.svg").exists()
