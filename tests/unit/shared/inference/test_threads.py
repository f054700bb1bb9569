from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import numpy, torch
from threadpoolctl import threadpool_info
from shared.inference.threads import use_threads
use_threads(3)
print(torch.get_num_threads(), {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"})
"""


def test_torch_has_the_threads_and_blas_one() -> None:
    """In a process of its own: there is no way back."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True, timeout=120)
    assert done.stdout.split("\n")[0] in ("3 {1}", "3 set()")
