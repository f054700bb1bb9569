"""What a verifier holds in memory beyond the same process without a model, against its weights and KV pool."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from bench.limits.figures import Figure, Floor, Section, Target
from bench.limits.models import FLOAT_BYTES
from bench.limits.placement import described
from bench.limits.run import Run
from bench.local import LocalStack, local_stack
from bench.prompts import source_prompts
from bench.settings import inherited_environment
from bench.twin import cached_twin, count_stored

MIB = 1 << 20
KV_MB = 256
CLIENTS = 16
MAX_TOKENS = 4
SETTLED = 0.2  # of the requests, until the pool's pages have been touched
SAMPLES = 40
BEYOND, GROWTH = Target(limit=1.15), Target(limit=1.02)
# Imports what the verifier imports and connects nowhere: what any such process holds.
EMPTY_PROCESS = "import services.verifier.__main__, sys; print(flush=True); sys.stdin.read()"


def measure(run: Run) -> Section:
    """Both as the kernel counts resident memory; the twin as the target, requests of a few tokens each."""
    twin = cached_twin()
    weights_mib, empty_mib = FLOAT_BYTES * count_stored(twin) / MIB, _empty_mib()
    with local_stack({"verifier": {"KV_MEMORY_MB": str(KV_MB)}}, target=str(twin)) as stack:
        loaded = resident_mib(stack.processes["verifier"].pid)
        samples = _serve(stack, run.requests)
        peak = resident_mib(stack.processes["verifier"].pid, "VmHWM")
        placement = described({name: process.pid for name, process in stack.processes.items()})
    settled = samples[int(SETTLED * len(samples)) :]
    floor = Floor(name=f"weights {weights_mib:.0f} MiB + KV pool {KV_MB} MiB", value=weights_mib + KV_MB)
    quarter = max(1, len(settled) // 4)
    growth = max(settled[-quarter:]) / max(settled[:quarter])
    return Section(
        name="memory",
        placement=placement,
        figures=[
            Figure(name="process without a model", unit="MiB", value=empty_mib),
            Figure(name="beyond it, loaded", unit="MiB", value=loaded - empty_mib, floor=floor),
            Figure(name="beyond it, at the end", unit="MiB", value=samples[-1] - empty_mib, floor=floor),
            Figure(name="beyond it, peak, loading included", unit="MiB", value=peak - empty_mib, floor=floor),
            Figure(
                name="at the end / weights + pool",
                unit="×",
                value=(samples[-1] - empty_mib) / floor.value,
                target=BEYOND,
            ),
            Figure(
                name=f"last quarter / first, after {SETTLED:.0%}, of {run.requests} requests",
                unit="×",
                value=growth,
                target=GROWTH,
            ),
        ],
    )


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
    assert process.stdin is not None and process.stdout is not None
    process.stdout.readline()
    resident = resident_mib(process.pid)
    process.stdin.close()
    process.wait(30)
    return resident


def _serve(stack: LocalStack, requests: int) -> list[float]:
    """Resident memory of the verifier after every share of the requests."""
    prompts = source_prompts(CLIENTS, seed=9)
    verifier = stack.processes["verifier"].pid
    samples, lock, done = [], threading.Lock(), 0
    every = max(1, requests // SAMPLES)

    def one(number: int) -> None:
        nonlocal done
        stack.complete({"prompt": prompts[number % CLIENTS], "max_tokens": MAX_TOKENS, "seed": number})
        with lock:
            done += 1
            if done % every == 0:
                samples.append(resident_mib(verifier))

    with ThreadPoolExecutor(CLIENTS) as pool:
        numbers: Iterator[int] = iter(range(requests))
        while batch := list(islice(numbers, 64 * CLIENTS)):
            list(pool.map(one, batch))
    return samples
