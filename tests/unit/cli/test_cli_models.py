"""Model choices of the launcher."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli import models
from shared.errors import ModelError


def test_a_directory_becomes_absolute_and_a_hub_id_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pair").mkdir()
    (tmp_path / "pair" / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert models.checked("pair", "--target") == models.checked("./pair", "--target") == str(tmp_path / "pair")
    assert models.checked("org/model", "--target") == "org/model"


@pytest.mark.parametrize("choice", ["./missing", "/nowhere/model", "empty"])
def test_a_directory_without_a_config_is_refused(
    choice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=f"--draft {choice}: no readable config"):
        models.checked(choice, "--draft")


def test_the_embedded_pair_lies_beside_the_training_script() -> None:
    assert Path(models.embedded("draft")).parent.joinpath("__init__.py").exists()
