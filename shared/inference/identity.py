"""A short name by which what was learned about a model finds it again."""

from __future__ import annotations

import re
from hashlib import blake2b
from pathlib import Path

from shared.inference.loading import model_directory

_SAMPLE_BYTES = 1 << 16
_MAX_NAME = 48


def model_name(path_or_id: str) -> str:
    """``<directory>-<digest>``, at most 57 of letters, digits, '_', '.', '-'. Raises ModelError.

    The digest is over the configuration and the first and last 64 KiB of each weights file: another training gives
    another name, a copy of the directory the same digest, and 140 GB are not read for it.
    """
    directory = model_directory(path_or_id)
    digest = blake2b((directory / "config.json").read_bytes(), digest_size=4)
    for weights in sorted(directory.glob("*.safetensors")):
        digest.update(_sample(weights))
    readable = re.sub(r"[^A-Za-z0-9_.-]", "_", Path(path_or_id).expanduser().resolve().name)
    return f"{readable[:_MAX_NAME]}-{digest.hexdigest()}"


def _sample(weights: Path) -> bytes:
    with weights.open("rb") as file:
        first = file.read(_SAMPLE_BYTES)
        file.seek(max(0, weights.stat().st_size - _SAMPLE_BYTES))
        return first + file.read()
