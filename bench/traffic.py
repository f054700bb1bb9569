"""Mixed traffic on a running stack, for as long as a block runs."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from bench.local import LocalStack
from bench.prompts import source_prompts

TPOT_TARGETS = (None, 6.0, 2.0, 1.2)  # times the zero-load latency; None is best effort


@contextmanager
def mixed_traffic(stack: LocalStack, num_clients: int, *, seed: int) -> Iterator[None]:
    """Clients that ask one completion after the other, of all lengths and targets, and rest in between."""
    stopping = threading.Event()
    zero_load_ms = stack.zero_load_ms()

    def client(number: int) -> None:
        chance = random.Random(seed + number)
        while not stopping.is_set():
            stack.complete(_body(chance, zero_load_ms))
            stopping.wait(chance.expovariate(4.0))

    with ThreadPoolExecutor(num_clients) as pool:
        clients = [pool.submit(client, number) for number in range(num_clients)]
        try:
            yield
        finally:
            stopping.set()
    for finished in clients:
        finished.result()


def _body(chance: random.Random, zero_load_ms: float) -> dict[str, Any]:
    (prompt,) = source_prompts(1, seed=chance.randrange(1 << 30), max_chars=chance.choice([60, 400, 2500]))
    tpot = chance.choice(TPOT_TARGETS)
    return {
        "prompt": prompt,
        "max_tokens": chance.randint(8, 96),
        "temperature": chance.choice([0.0, 0.7, 1.0]),
        "seed": chance.randrange(1 << 30),
        "ignore_eos": True,
        "adaserve": {} if tpot is None else {"slo": {"tpot_ms": tpot * zero_load_ms}},
    }
