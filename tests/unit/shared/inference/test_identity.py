"""Names under which a model's labels are kept (shared/inference/identity.py)."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from shared.errors import ModelError
from shared.inference.identity import model_name


def model(directory: Path, weights: bytes = b"weights", config: bytes = b"{}") -> Path:
    directory.mkdir()
    (directory / "config.json").write_bytes(config)
    (directory / "model.safetensors").write_bytes(weights)
    return directory


def test_a_name_is_stable_and_tells_models_apart(tmp_path: Path) -> None:
    first = model(tmp_path / "draft")
    name = model_name(str(first))
    assert re.fullmatch(r"draft-[0-9a-f]{8}", name)
    assert model_name(str(first)) == name
    copy = shutil.copytree(first, tmp_path / "copy")
    assert model_name(str(copy)).split("-")[1] == name.split("-")[1]
    end = model(tmp_path / "end", weights=bytes(1 << 17) + b"a")
    other = model(tmp_path / "other", weights=bytes(1 << 17) + b"b")
    config = model(tmp_path / "config", config=b"[]")
    digests = {model_name(str(path)).split("-")[1] for path in (first, end, other, config)}
    assert len(digests) == 4


def test_odd_and_long_directory_names_fit_into_a_key(tmp_path: Path) -> None:
    assert re.fullmatch(r"a_b_c-[0-9a-f]{8}", model_name(str(model(tmp_path / "a b:c"))))
    assert len(model_name(str(model(tmp_path / ("x" * 200))))) == 57


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such model"):
        model_name(str(tmp_path / "nothing"))
