"""Model choices of the launcher."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli import models
from shared.errors import ModelError
from tests.tiny_tokenizers import byte_level, save


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


def test_a_pair_of_different_tokens_is_refused_by_the_first_of_them(tmp_path: Path) -> None:
    target = str(save(byte_level(vocab_size=320), tmp_path / "target"))
    models.require_same_tokens(target, str(save(byte_level(vocab_size=320), tmp_path / "twin")))
    draft = str(save(byte_level(vocab_size=300), tmp_path / "draft"))
    with pytest.raises(ModelError, match=f"--draft {draft} do not share their tokens: token id [0-9]+ is"):
        models.require_same_tokens(target, draft)
