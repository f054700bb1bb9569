"""What is taken out of an image's packages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from deploy.docker import prune


def test_only_what_builds_and_tests_need_goes(tmp_path: Path) -> None:
    root = tmp_path / "lib" / "python3.11" / "site-packages"
    kept = [
        "numpy/core.py",
        "torch/testing/used.py",
        "torch/lib/libtorch.so",
        "x/tests_of.py",
        "httpx/_test.py",
        "torch/bin/torch_shm_manager",
    ]
    gone = ["numpy/tests/test_a.py", "torch/include/a.h", "torch/bin/protoc", "uvloop/loop.pyx", "torch/lib/c.a"]
    for name in kept + gone:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x = 1\n")
    subprocess.run([sys.executable, prune.__file__, str(tmp_path)], check=True, capture_output=True)
    assert [name for name in kept + gone if (root / name).exists()] == kept
    compiled = {path.name.partition(".")[0] for path in root.rglob("*.pyc")}
    assert compiled == {"core", "used", "tests_of", "_test"}
