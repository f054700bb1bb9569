from __future__ import annotations

import subprocess
import sys

import pytest

# Blocks of 8 MiB, each with a small one behind it that stays: what is freed between them leaves holes in a heap.
PROGRAM = """
import ctypes, sys
from pathlib import Path
from shared.inference.heap import give_back_large
if sys.argv[1] == "back":
    give_back_large()
library = ctypes.CDLL(None)
library.malloc.restype = ctypes.c_void_p
library.free.argtypes = [ctypes.c_void_p]
def resident_mib():
    return int(Path("/proc/self/statm").read_text().split()[1]) / 256
def use():
    large = []
    for _ in range(10):
        large.append(library.malloc(8 << 20))
        ctypes.memset(ctypes.c_void_p(large[-1]), 1, 8 << 20)
        library.malloc(100_000)  # no hole is as large
    for block in large:
        library.free(block)
before = resident_mib()
use()
use()
print(round(resident_mib() - before))
"""


def kept_mib(how: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, how], check=True, capture_output=True, text=True, timeout=120
    )
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's heap")
def test_large_blocks_go_back_when_they_are_freed() -> None:
    assert kept_mib("back") < 8
    assert kept_mib("stay") > 40
