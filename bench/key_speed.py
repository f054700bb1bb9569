"""Microseconds that a gateway takes to judge an API key, with as many keys as it may know.

    python -m bench.key_speed [--keys 10000] [--repetitions 20000] [--json]

Right keys, wrong secrets of known ids, unknown ids and other strings in turn, each timed alone; and once how long
the gateway takes to unpack all records, which it does in a thread when one has changed.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from shared import api_keys
from shared.api_keys import ApiKey, Scope, StoredSecret, Verdict, judge, unpack_keys

GOAL_MS = 1.0  # of one verification, at the 99th percentile
NOW_MS = 1_800_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """µs for one kind of what clients send."""

    kind: str
    median_us: float
    p99_us: float
    worst_us: float


def make(num_keys: int) -> tuple[dict[str, ApiKey], list[str]]:
    """Records by id, and the keys as their users have them."""
    records, spelled = {}, []
    for _ in range(num_keys):
        key_id, secret = api_keys.new_id(), api_keys.new_secret()
        records[key_id] = ApiKey(
            id=key_id,
            tenant="acme",
            scopes=(Scope.INFERENCE,),
            created_ms=NOW_MS,
            changed_ms=NOW_MS,
            secrets=(StoredSecret(api_keys.digest_of(secret)),),
        )
        spelled.append(api_keys.spelled(key_id, secret))
    return records, spelled


def measure(kind: str, expected: Verdict, records: dict[str, ApiKey], given: Sequence[str]) -> Line:
    """Raises SystemExit for a verdict that is wrong."""
    times = np.empty(len(given))
    for index, key in enumerate(given):
        started = time.perf_counter_ns()
        verdict, _ = judge(records, key, NOW_MS)
        times[index] = (time.perf_counter_ns() - started) / 1_000
        if verdict is not expected:
            raise SystemExit(f"{kind}: {verdict} instead of {expected}")
    median, p99 = np.percentile(times, [50, 99])
    return Line(kind=kind, median_us=float(median), p99_us=float(p99), worst_us=float(times.max()))


def unpack_ms(records: dict[str, ApiKey]) -> float:
    """How long reading all records takes once they are here."""
    packed = {key.id.encode(): key.pack() for key in records.values()}
    started = time.perf_counter()
    found, _ = unpack_keys(packed)
    took_ms = (time.perf_counter() - started) * 1_000
    if found != records:
        raise SystemExit("records were not read back as they were")
    return took_ms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--repetitions", type=int, default=20_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    records, spelled = make(options.keys)
    right = random.choices(spelled, k=options.repetitions)
    lines = [
        measure("right key", Verdict.OK, records, right),
        measure("wrong secret", Verdict.UNKNOWN, records, [f"{key}x" for key in right]),
        measure("unknown id", Verdict.UNKNOWN, records, [key.replace("sk-", "sk-0", 1) for key in right]),
        measure("none of ours", Verdict.MALFORMED, records, [key[3:] for key in right]),
    ]
    read_ms = unpack_ms(records)
    if options.json:
        print(json.dumps({"keys": options.keys, "lines": [asdict(line) for line in lines], "unpack_ms": read_ms}))
        return
    print(f"{options.keys} keys, {options.repetitions} of each kind")
    print(f"{'':<14} {'median':>10} {'p99':>10} {'worst':>10}")
    for line in lines:
        print(f"{line.kind:<14} {line.median_us:>7.1f} µs {line.p99_us:>7.1f} µs {line.worst_us:>7.1f} µs")
    slowest_ms = max(line.p99_us for line in lines) / 1_000
    print(
        f"goal: p99 at most {GOAL_MS:g} ms; {'met' if slowest_ms <= GOAL_MS else 'missed'} ({slowest_ms:.3f} ms)"
    )
    print(f"all records unpacked in {read_ms:.0f} ms")


if __name__ == "__main__":
    main()
