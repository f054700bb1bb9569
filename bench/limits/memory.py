"""What a verifier holds in memory beyond the same process without a model, against its weights and KV pool."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from bench.limits.figures import Figure, Floor, Section, Target
from bench.limits.models import FLOAT_BYTES, TARGET
from bench.limits.placement import described
from bench.limits.run import Run
from bench.local import LocalStack, local_stack
from bench.prompts import source_prompts
from bench.settings import inherited_environment
from bench.twin import cached_twin, count_stored

MIB = 1 << 20
KV_MB = 256
CLIENTS = 16
FEW = 50  # of all requests one part goes to the twin, whose prompts take a tenth of a second each
PROMPTS = 512  # different ones, so that the whole pool is used
MAX_TOKENS = 4
SETTLED = 0.2  # of the requests, until the pool's pages have been touched
SAMPLES = 40
BATCH = 16 * CLIENTS  # between two looks at the clock
LONGEST_S = 1500.0  # of one model: what has been served by then is judged
BEYOND, GROWTH = Target(limit=1.15), Target(limit=1.02)
# Imports what the verifier imports and connects nowhere: what any such process holds.
EMPTY_PROCESS = "import services.verifier.__main__, sys; print(flush=True); sys.stdin.read()"


def measure(run: Run) -> Section:
    """Resident memory as the kernel counts it. The twin serves a few requests, the embedded target all of them."""
    empty_mib, few = _empty_mib(), max(2 * CLIENTS, run.requests // FEW)
    figures = [Figure(name="a verifier's process without a model", unit="MiB", value=empty_mib)]
    for name, directory, requests in (("twin", cached_twin(), few), ("embedded", TARGET, run.requests)):
        figures += _held(name, directory, requests, empty_mib)
    return Section(name="memory", placement=described(), figures=figures)


def _held(name: str, directory: Path, requests: int, empty_mib: float) -> list[Figure]:
    weights_mib = FLOAT_BYTES * count_stored(directory) / MIB
    floor = Floor(name=f"weights {weights_mib:.0f} MiB + KV pool {KV_MB} MiB", value=weights_mib + KV_MB)
    with local_stack({"verifier": {"KV_MEMORY_MB": str(KV_MB)}}, target=str(directory)) as stack:
        loaded = resident_mib(stack.processes["verifier"].pid)
        samples, served = _serve(stack, name, requests)
        peak = resident_mib(stack.processes["verifier"].pid, "VmHWM")
    held = samples[-1] - empty_mib
    return [
        Figure(name=f"{name}: beyond it, loaded", unit="MiB", value=loaded - empty_mib, floor=floor),
        Figure(name=f"{name}: beyond it, after {served} requests", unit="MiB", value=held, floor=floor),
        Figure(name=f"{name}: beyond it, peak, loading included", unit="MiB", value=peak - empty_mib, floor=floor),
        Figure(name=f"{name}: held / weights + pool", unit="×", value=held / floor.value, target=BEYOND),
        Figure(name=f"{name}: growth, {served} requests", unit="×", value=growth(samples), target=GROWTH),
    ]


def growth(samples: Sequence[float]) -> float:
    """The most of the last quarter over the most of the first, once settled."""
    settled = samples[int(SETTLED * len(samples)) :]
    quarter = max(1, len(settled) // 4)
    return max(settled[-quarter:]) / max(settled[:quarter])


def resident_mib(pid: int, field: str = "VmRSS") -> float:
    """Resident memory of a process now, or at most so far (VmHWM)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) / 1024
    raise SystemExit(f"/proc/{pid}/status has no {field}")


def _empty_mib() -> float:
    process = subprocess.Popen(
        [sys.executable, "-c", EMPTY_PROCESS],
        env=inherited_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.readline()
    resident = resident_mib(process.pid)
    process.stdin.close()
    process.wait(30)
    return resident


def _serve(stack: LocalStack, name: str, requests: int) -> tuple[list[float], int]:
    """Resident memory of the verifier after every share of the requests, and how many were served in time."""
    prompts = source_prompts(min(requests, PROMPTS), seed=9)
    verifier = stack.processes["verifier"].pid
    samples, lock, done = [], threading.Lock(), 0
    every, ends = max(1, requests // SAMPLES), time.monotonic() + LONGEST_S

    def one(number: int) -> None:
        nonlocal done
        stack.complete({"prompt": prompts[number % len(prompts)], "max_tokens": MAX_TOKENS, "seed": number})
        with lock:
            done += 1
            if done % every == 0:
                samples.append(resident_mib(verifier))

    with ThreadPoolExecutor(CLIENTS) as pool:
        numbers: Iterator[int] = iter(range(requests))
        while time.monotonic() < ends and (batch := list(islice(numbers, BATCH))):
            list(pool.map(one, batch))
            print(
                f"memory, {name}: {done} of {requests} requests, {resident_mib(verifier):.0f} MiB", file=sys.stderr
            )
    return samples, done
