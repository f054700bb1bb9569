"""Hostile inputs against what reads the wire: messages, forms, orders, `Last-Event-ID`, `traceparent`.

python -m tests.fuzz.campaign                    120,000 inputs
python -m tests.fuzz.campaign --inputs 5000 --seed 7

Each input may end in a value or in the reader's declared error; it may take less than 50 MB beside itself and less
than 50 ms of CPU time. Every input is read twice: timed, then with its memory traced. A failure prints the seed
that makes the input again.
"""

from __future__ import annotations

import argparse
import random
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from services.gateway.errors import ApiError
from services.gateway.form import Form
from services.gateway.stream_ids import seen_of
from shared import codec
from shared.errors import UnreadableMessage
from shared.modes import Mode, Order
from shared.tracing import span_context
from tests.fuzz import mutation

MAX_MB = 50.0
MAX_MS = 50.0
STREAM = "0" * 32


@dataclass(frozen=True, slots=True)
class Reader:
    """Something that reads; ``error`` is the one exception that it may raise, None for none."""

    name: str
    draw: Callable[[random.Random], Any]
    read: Callable[[Any], object]
    error: type[Exception] | None


@dataclass
class Found:
    """What the inputs did."""

    inputs: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    worst_ms: tuple[float, str] = (0.0, "")
    worst_mb: tuple[float, str] = (0.0, "")


def readers() -> list[Reader]:
    """One for each kind of message, for what rides beside messages, and for each header."""
    found = [
        _packed_reader(kind.__name__, mutation.golden(kind), partial(codec.decode, kind))
        for kind in mutation.KINDS
    ]
    form = Form(endpoint="chat", model="target", created=1).pack()
    found.append(_packed_reader("Form", form, Form.unpack))
    found.append(_packed_reader("Order", Order(mode=Mode.AUTO).pack(), Order.unpack))
    found.append(Reader("Last-Event-ID", mutation.event_id, lambda text: seen_of(text, STREAM), ApiError))
    found.append(Reader("traceparent", mutation.traceparent, span_context, None))
    return found


def _packed_reader(name: str, valid: bytes, read: Callable[[Any], object]) -> Reader:
    return Reader(name, lambda chance: mutation.packed(chance, valid), read, UnreadableMessage)


def run(num_inputs: int, seed: int) -> Found:
    """So many inputs, spread over all readers; input ``n`` depends on seed and n only."""
    found, all_readers = Found(), readers()
    for number in range(num_inputs):
        reader = all_readers[number % len(all_readers)]
        _try(reader, reader.draw(random.Random(f"{seed}:{number}")), f"{reader.name} {seed}:{number}", found)
    return found


def _try(reader: Reader, value: Any, name: str, found: Found) -> None:
    found.inputs[reader.name] += 1
    begun = time.thread_time()
    error = _read(reader, value)
    ms = 1_000 * (time.thread_time() - begun)
    tracemalloc.start()
    _read(reader, value)
    mb = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    if isinstance(error, reader.error or ()):
        found.refused[reader.name] += 1
    elif error is not None:
        found.failures.append(f"{name}: {type(error).__name__}: {str(error)[:200]}")
    found.worst_ms = max(found.worst_ms, (ms, name))
    found.worst_mb = max(found.worst_mb, (mb, name))
    if ms > MAX_MS or mb > MAX_MB:
        found.failures.append(f"{name}: {ms:.1f} ms, {mb:.1f} MB")


def _read(reader: Reader, value: Any) -> Exception | None:
    try:
        reader.read(value)
    except Exception as error:
        return error
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=120_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    begun = time.monotonic()
    found = run(options.inputs, options.seed)
    for name, count in found.inputs.items():
        print(f"{name:16} {count:7,} inputs, {found.refused[name]:7,} refused")
    print(f"worst time   {found.worst_ms[0]:6.2f} ms of {MAX_MS:g}  ({found.worst_ms[1]})")
    print(f"worst memory {found.worst_mb[0]:6.2f} MB of {MAX_MB:g}  ({found.worst_mb[1]})")
    for failure in found.failures[:20]:
        print("FAILED", failure)
    total = sum(found.inputs.values())
    print(f"{total:,} inputs, {len(found.failures)} failures, {time.monotonic() - begun:.0f} s")
    raise SystemExit(bool(found.failures))


if __name__ == "__main__":
    main()
