"""`adaserve poc`: what other commands print goes in, tables and an exit code come out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cli import admin
from cli.main import app
from services.gateway.description import examples

POLICY = "docs/examples/policy.yaml"
TRACE = "paper:rps=2,seconds=5"


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["poc", *words])


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the simulator really prints."""
    path = tmp_path_factory.mktemp("poc") / "simulated.jsonl"
    words = ["simulate", "--trace", TRACE, "--policy", POLICY, "--prices", "docs/examples/prices.yaml"]
    done = CliRunner().invoke(app, [*words, "--seeds", "2", "--json"])
    assert done.exit_code == 0, done.output
    path.write_text(done.stdout)
    return path


def report(goodput: float) -> dict[str, Any]:
    return {
        "attainment": {"mean": 100.0, "ci95": 0.0, "by_category": {"coding": 99.0, "chatbot": 95.0}},
        "goodput_tokens_per_s": {"mean": goodput, "ci95": 1.0},
        "replay": {"requests": 9, "failures": {}, "tally": [{"equal": True}]},
    }


def test_every_phase_that_has_figures_is_judged(
    simulated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_, without = tmp_path / "with.json", tmp_path / "without.json"
    with_.write_text(json.dumps(report(20.0), indent=2))
    without.write_text(json.dumps(report(17.0), indent=2))
    asked = []

    def ask(url: str, key: str | None, method: str, path: str, **params: Any) -> dict[str, Any]:
        asked.append((url, key, method, path))
        rollout = {**examples.ROLLOUT, "objectives": {"chatbot": 0.95}}
        return rollout if path == "/admin/rollout" else {"events": []}

    monkeypatch.setattr(admin, "ask", ask)
    laboratory = ("--policy", POLICY, "--with", str(with_), "--without", str(without))
    done = run(*laboratory, "--url", "http://there", "--admin-key", "k")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1] == "GO"
    for title in ("0 the promises: GO", "2 in the laboratory: GO", "3 the first step, 1 of 3 (10 %): GO"):
        assert title in done.stdout
    assert ("http://there", "k", "GET", "/admin/rollout") in asked
    done = run("--simulated", str(simulated), "--json")
    told = json.loads(done.stdout)
    [phase] = told["phases"]
    names = {criterion["what"] for criterion in phase["criteria"]}
    assert {"acme: attainment of coding", "gain of all tenants", "acme: payback"} <= names
    assert (phase["verdict"] == "GO") == (done.exit_code == 0)
    without.write_text(json.dumps(report(19.0)))
    done = run(*laboratory)
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (1, "NO-GO")


@pytest.mark.parametrize(
    ("words", "content", "said"),
    [
        ((), "", "nothing to judge: give --policy"),
        (("--with", "FILE"), "{}", "--with and --without go together"),
        (("--with", "FILE", "--without", "FILE"), "{}", "--with needs the objectives of a --policy"),
        (("--policy", POLICY, "--with", "FILE", "--without", "FILE"), "{}", "FILE: attainment: Field required"),
        (("--simulated", "FILE"), "", "FILE: not what `--json` prints"),
        (("--simulated", "FILE"), "no", "FILE: not what `--json` prints"),
        (("--simulated", "FILE"), '{"system": "a", "tenants": 5}', "FILE: tenants: Input should be"),
        (("--simulated", "FILE"), '{"system": "a"} rest', "FILE: not what `--json` prints"),
        (("--simulated", "nowhere"), "", "nowhere: cannot be read"),
        (("--policy", "nowhere"), "", "nowhere: cannot be read"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, words: tuple[str, ...], content: str, said: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(content)
    done = run(*(word.replace("FILE", str(path)) for word in words))
    assert done.exit_code == 2, done.output
    assert said.replace("FILE", str(path)) in done.stderr


def test_a_gateway_that_is_not_there_is_told() -> None:
    done = run("--url", "http://127.0.0.1:9")
    assert (done.exit_code, "no gateway at http://127.0.0.1:9" in done.stderr) == (1, True)
