"""The ring's floor: three hops between three processes over bare sockets, with bodies of the ring's sizes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

from bench.limits.wire import Wire
from bench.settings import inherited_environment

STREAMS = ("bare:draft", "bare:select", "bare:verify")
PAUSE_S = 0.002  # between rounds: a core that has slept has to be woken, as in the ring


@contextmanager
def relays(url: str) -> Iterator[list[int]]:
    """Two processes that pass on what comes; yields their ids."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "bench.limits.relay", url, source, destination],
            env=inherited_environment(),
            stdin=subprocess.PIPE,
        )
        for source, destination in pairwise(STREAMS)
    ]
    try:
        yield [process.pid for process in processes]
    finally:
        for process in processes:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(10)


def bare_ring_us(url: str, body: bytes, rounds: int, *, warm: int = 20) -> list[float]:
    """µs from the first XADD to the entry that has come round, of each round."""
    sender = Wire(url)
    times, cursor = [], "0-0"
    sender.ask("DEL", *STREAMS)
    with relays(url):
        for number in range(warm + rounds):
            time.sleep(PAUSE_S)
            start = time.perf_counter()
            sender.send(
                ("XADD", STREAMS[0], "MAXLEN", "~", 256, "*", "body", body),
                ("XREAD", "BLOCK", 5000, "STREAMS", STREAMS[-1], cursor),
            )
            sender.receive()
            reply = sender.receive()
            if not reply:
                raise SystemExit("the bare ring does not answer")
            spent = time.perf_counter() - start
            cursor = reply[0][1][-1][0]
            if number >= warm:
                times.append(spent * 1e6)
    sender.close()
    return times
