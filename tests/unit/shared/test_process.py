"""The first signal drains, the second ends the process, also where its main thread is busy."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

BUSY = """
import hashlib, os, signal, sys, threading
from shared.process import on_signals
first, second = (int(word) for word in sys.argv[1:])
drained = threading.Event()
on_signals(drained.set)
os.kill(os.getpid(), first)
assert drained.wait(20)
print("draining", flush=True)
os.kill(os.getpid(), second)
hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # long, without Python in which a handler could run
print("never", flush=True)
"""


@pytest.mark.parametrize(
    ("first", "second"), [(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGTERM), (signal.SIGTERM, 2)]
)
def test_the_first_signal_drains_and_the_second_ends_the_process_at_once(first: int, second: int) -> None:
    command = [sys.executable, "-c", BUSY, str(int(first)), str(int(second))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=40, check=False)
    assert (done.returncode, done.stdout) == (128 + second, "draining\n"), done.stderr
