"""Takes out of a virtual environment what only builds and tests need, and compiles the rest: `prune.py VENV`.

Where there is `strip`, symbols of extensions go too, a tenth of the gateway's image; PyTorch's and the libraries
that wheels bring in folders of their own stay whole. A container's root is read-only: Python could not keep what
it compiles: each start would do it anew.
"""

from __future__ import annotations

import compileall
import shutil
import subprocess
import sys
from pathlib import Path
from py_compile import PycInvalidationMode

FOLDERS = {"tests", "include", "__pycache__"}
OF_TORCH = ("bin/protoc*", "bin/test_*", "bin/*Test", "share", "test")  # it runs bin/torch_shm_manager itself
KEPT_WHOLE = {"torch", "triton", "nvidia", "numpy.libs", "scipy.libs"}
SUFFIXES = {".a", ".c", ".cpp", ".cu", ".h", ".hpp", ".pxd", ".pyx"}


def doomed(root: Path) -> list[Path]:
    """Folders and files to take out below site-packages, the outermost of each only."""
    found = [path for path in root.rglob("*") if path.is_dir() and path.name in FOLDERS]
    found += [path for pattern in OF_TORCH for path in root.glob(f"torch/{pattern}")]
    inside = set(found)
    outer = [path for path in found if not inside & set(path.parents)]
    return outer + [path for path in root.rglob("*") if path.suffix in SUFFIXES and path.is_file()]


def stripped(root: Path) -> None:
    """Takes symbols that nothing is linked by out of extensions."""
    found = [path for path in root.rglob("*.so") if path.relative_to(root).parts[0] not in KEPT_WHOLE]
    if found and (strip := shutil.which("strip")):
        subprocess.run([strip, "--strip-unneeded", *map(str, found)], check=True)


def main() -> None:
    """Prints what it has saved."""
    (root,) = Path(sys.argv[1]).glob("lib/python3.*/site-packages")
    before = size(root)
    for path in doomed(root):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    stripped(root)
    pruned = size(root)
    compileall.compile_dir(root, quiet=2, workers=0, invalidation_mode=PycInvalidationMode.UNCHECKED_HASH)
    sys.stdout.write(f"{root}: {before >> 20} MiB, {pruned >> 20} without what it does not need, ")
    sys.stdout.write(f"{size(root) >> 20} compiled\n")


def size(root: Path) -> int:
    """Bytes of all files."""
    return sum(path.lstat().st_size for path in root.rglob("*") if not path.is_dir())


if __name__ == "__main__":
    main()
