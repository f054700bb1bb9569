"""Takes out of a virtual environment what only builds and tests need, and compiles the rest: `prune.py VENV`.

A container's root is read-only, so Python could not keep what it compiles: each start would do it anew.
"""

from __future__ import annotations

import compileall
import shutil
import sys
from pathlib import Path
from py_compile import PycInvalidationMode

FOLDERS = {"tests", "include", "__pycache__"}
OF_TORCH = ("bin", "share", "test")
SUFFIXES = {".a", ".c", ".cpp", ".cu", ".h", ".hpp", ".pxd", ".pyx"}


def doomed(root: Path) -> list[Path]:
    """Folders and files to take out below site-packages, the outermost of each only."""
    found = [path for path in root.rglob("*") if path.is_dir() and path.name in FOLDERS]
    found += [path for pattern in OF_TORCH for path in root.glob(f"torch/{pattern}")]
    inside = set(found)
    outer = [path for path in found if not inside & set(path.parents)]
    return outer + [path for path in root.rglob("*") if path.suffix in SUFFIXES and path.is_file()]


def main() -> None:
    """Prints what it has saved."""
    (root,) = Path(sys.argv[1]).glob("lib/python3.*/site-packages")
    before = size(root)
    for path in doomed(root):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    pruned = size(root)
    compileall.compile_dir(root, quiet=2, workers=0, invalidation_mode=PycInvalidationMode.UNCHECKED_HASH)
    sys.stdout.write(f"{root}: {before >> 20} MiB, {pruned >> 20} without what it does not need, ")
    sys.stdout.write(f"{size(root) >> 20} compiled\n")


def size(root: Path) -> int:
    """Bytes of all files."""
    return sum(path.lstat().st_size for path in root.rglob("*") if not path.is_dir())


if __name__ == "__main__":
    main()
