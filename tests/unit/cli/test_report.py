"""`adaserve report`: what goes together, and what is said of a server that is no Prometheus."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.replay.recording import save
from cli.main import app
from tests.unit.bench.proof.recordings import recording, run
from tests.unit.cli.fake_gateway import running


def report(folder: Path, *options: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    found = CliRunner().invoke(app, ["report", "--out", str(folder / "report.html"), *options])
    return found.exit_code, found.stdout, found.stderr


@pytest.fixture
def saved(tmp_path: Path) -> list[str]:
    on, off = tmp_path / "on.json", tmp_path / "off.json"
    save(recording(run([True] * 3, accepted=1)), on)
    save(recording(run([True] * 3), system="plain"), off)
    return ["--replay", str(on), "--baseline", str(off)]


@pytest.mark.parametrize("option", ["--since", "--until", "--baseline-since", "--baseline-until", "--url"])
def test_what_goes_with_prometheus_is_refused_beside_a_replay(
    tmp_path: Path, saved: list[str], option: str
) -> None:
    code, _, told = report(tmp_path, *saved, option, "7d")
    assert (code, told) == (2, f"adaserve: {option} goes with --prometheus, not with --replay\n")
    assert report(tmp_path, *saved)[0] == 0


@pytest.mark.parametrize("option", ["--replay", "--baseline"])
def test_a_file_counts_once(tmp_path: Path, saved: list[str], option: str) -> None:
    code, _, told = report(tmp_path, *saved, option, str(tmp_path / "." / "on.json"))
    assert code == 2
    assert "on.json is given twice" in told
    assert not (tmp_path / "report.html").exists()


def test_another_service_is_no_prometheus_and_one_line_says_so(tmp_path: Path) -> None:
    with running() as gateway:
        code, printed, told = report(tmp_path, "--prometheus", gateway.url)
    assert (code, printed) == (1, "")
    words = "does not answer as Prometheus does (404); is it the address of another service?"
    assert told == f"adaserve: {gateway.url} {words}\n"


def test_metrics_are_given_one_by_one() -> None:
    found = CliRunner().invoke(
        app, ["replay", "--metrics", "http://a/metrics", "http://b/metrics", "--trace", "t.csv"]
    )
    assert found.exit_code == 2
    assert "--metrics takes one address: give it before each" in found.stderr
