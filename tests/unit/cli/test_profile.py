"""What `adaserve profile` runs (cli/profile.py)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cli.models import embedded
from cli.profile import Choices, command
from shared.errors import ModelError

DEFAULTS = Choices(target=None, draft=None, device="cpu", dtype="float32", threads=1, as_json=False)


def test_models_default_to_the_embedded_pair() -> None:
    line = command(DEFAULTS)
    assert line[:3] == [sys.executable, "-m", "bench.profile"]
    assert line[3:7] == ["--target", embedded("target"), "--draft", embedded("draft")]
    assert "--json" not in line


def test_every_choice_is_handed_on(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    choices = Choices(
        target=str(tmp_path), draft="org/model", device="cuda:1", dtype="bfloat16", threads=4, as_json=True
    )
    given = ["--target", str(tmp_path), "--draft", "org/model", "--device", "cuda:1", "--dtype", "bfloat16"]
    assert command(choices)[3:] == [*given, "--threads", "4", "--json"]


def test_a_directory_without_a_model_is_refused_by_its_option(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="--draft"):
        command(Choices(target=None, draft=str(tmp_path), device="cpu", dtype="float32", threads=1, as_json=False))
