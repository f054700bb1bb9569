"""Where the pair and the training cache live, and how directories are replaced atomically."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MODELS = Path(__file__).resolve().parent
TARGET = MODELS / "target"
DRAFT = MODELS / "draft"
CACHE = MODELS / ".cache"


@contextmanager
def replaced_directory(destination: Path, *, staging: Path = CACHE) -> Iterator[Path]:
    """Yield an empty directory, under `staging`, which takes the place of `destination` on success.

    A reader sees the old files or the new ones; the gap between the two renames is
    microseconds. On an exception `destination` is left as it was. Both must be on one file system.
    """
    staging.mkdir(exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f"{destination.name}-", dir=staging))
    try:
        new, old = staging / "new", staging / "old"
        new.mkdir()
        yield new
        if destination.exists():
            destination.rename(old)
        new.rename(destination)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
