"""`python -m tests.upgrade.record`: what the release before says, kept in `previous/` for tests without a clone.

Its golden bytes, its function library, and every call of it with the reply (`scenario.py`).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.upgrade.mixed import library_of
from tests.upgrade.releases import previous_release, unpack

PLACE = Path(__file__).with_name("previous")


def main() -> None:
    """Raises RuntimeError where this clone lacks that release."""
    with tempfile.TemporaryDirectory(prefix="ada-release-") as folder:
        tree = unpack(previous_release(), Path(folder))
        shutil.rmtree(PLACE, ignore_errors=True)
        shutil.copytree(tree / "tests" / "unit" / "shared" / "golden", PLACE / "golden")
        (PLACE / "scripts.lua").write_text(library_of(tree), encoding="utf-8")
        calls = subprocess.run(
            [sys.executable, Path(__file__).with_name("scenario.py")],
            cwd=tree,
            env={**os.environ, "PYTHONPATH": str(tree)},
            stdout=subprocess.PIPE,
            check=True,
        )
        (PLACE / "calls.json").write_bytes(calls.stdout + b"\n")
        (PLACE / "release").write_text(f"{previous_release()}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
