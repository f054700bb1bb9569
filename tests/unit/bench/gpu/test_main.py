"""What `python -m bench.gpu` does where it cannot measure, or a section fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from bench.gpu import __main__ as gpu
from bench.gpu.passes import knee
from bench.gpu.run import Run
from bench.limits.figures import Figure, Section, Target


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_ends_with_a_line_and_the_code_of_a_wrong_setting(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert gpu.main([]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("adaserve: device 'cuda' is not there: 0 CUDA devices are visible")
    assert "--device cpu --tiny" in line


@pytest.mark.parametrize("arguments", [["--device", "cpu"], ["--device", "cpu", "--tiny", "--only", "other"]])
def test_what_makes_no_sense_is_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        gpu.main(arguments)
    assert caught.value.code == 2


def of_one(name: str, value: float) -> Section:
    return Section(
        name=name, placement="here", figures=[Figure(name="f", unit="ms", value=value, target=Target(limit=1.0))]
    )


def broken(_: Run) -> Section:
    raise RuntimeError("no such kernel")


@pytest.mark.parametrize(("value", "code"), [(0.5, 0), (2.0, 1)])
def test_targets_decide_the_exit_code(value: float, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "SECTIONS", {"a": lambda _: of_one("a", value)})
    assert gpu.main(["--device", "cpu", "--tiny"]) == code


def test_a_section_that_fails_is_told_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "SECTIONS", {"a": broken, "b": lambda _: of_one("b", 0.5)})
    assert gpu.main(["--device", "cpu", "--tiny", "--out", str(tmp_path / "found.json")]) == 1
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["failed"] == {"a": "RuntimeError: no such kernel"}
    assert list(found["sections"]) == ["b"]
    assert found["machine"]["device"] == "cpu"
    assert "failed: a" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("medians", "tokens"),
    [
        ({1: 1.0, 8: 1.1, 32: 1.25, 64: 1.3}, 32),
        ({1: 1.0, 8: 1.4, 32: 1.2}, 1),  # what is slower below ends it
        ({1: 1.0, 8: 0.9}, 8),
    ],
)
def test_the_knee_is_where_more_tokens_begin_to_cost(medians: dict[int, float], tokens: int) -> None:
    assert knee(medians) == tokens
