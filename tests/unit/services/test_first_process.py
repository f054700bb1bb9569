"""As process 1 of a container a service hears SIGTERM from its first import on."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

LOADING = """
import os, signal, sys
os.getpid = lambda: int(sys.argv[1])
import services
print("loading", flush=True)
while True:
    signal.pause()
"""


@pytest.mark.parametrize(("pid", "code"), [(1, 128 + signal.SIGTERM), (2, -signal.SIGTERM)])
def test_a_signal_during_the_start_ends_it(pid: int, code: int) -> None:
    command = [sys.executable, "-c", LOADING, str(pid)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "loading\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == code
