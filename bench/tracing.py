"""What tracing costs: CPU time of all services per output token, a tenth of the requests traced against none.

    python -m bench.tracing [--pairs 40] [--requests 10] [--streams 1] [--tokens 64] [--share 0.1]

Two stacks export to a receiver in this process, whose time does not count. Both get the same requests at the same
time, so that whatever else the machine does slows both; the client says by its `traceparent` which are traced. In
a pair of rounds each stack has each part once: what one stack is slower than the other cancels out. One stream at
a time: how requests fall into batches differs from round to round, by more than tracing costs. A round ends after
its spans have been exported, which happens more often than by default: every 2 s, in place of 5.

The goal is shown where the whole 95 % interval of the pairs' ratio lies below it, and not shown where any of it is
above; that may mean too few pairs as well as too dear a tracing.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import accumulate
from typing import TypeAlias

from bench.gateway_load.processes import cpu_s
from bench.local import SERVICES, LocalStack, local_stack
from bench.prompts import source_prompts

Cost: TypeAlias = Mapping[str, float]  # by service

GOAL = 0.02
EXPORT_S = 2.0
DRAIN_S = EXPORT_S + 0.3


@contextmanager
def receiver() -> Iterator[tuple[str, list[int]]]:
    """An OTLP/HTTP endpoint that throws away what it is sent, and the sizes of what came."""
    sizes: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sizes.append(len(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", sizes
    finally:
        server.shutdown()
        server.server_close()


@dataclass(frozen=True, slots=True)
class Load:
    """One round: so many requests of so many tokens, ``streams`` at a time; ``share`` of them traced."""

    prompts: Sequence[str]
    streams: int
    num_tokens: int
    share: float

    def headers(self, number: int, *, traced: bool) -> dict[str, str]:
        every = round(1 / self.share)
        flag = "01" if traced and number % every == every // 2 else "00"
        return {"traceparent": f"00-{random.getrandbits(128):032x}-{random.getrandbits(64):016x}-{flag}"}

    def run(self, stack: LocalStack, *, traced: bool) -> Cost:
        """CPU milliseconds per token of each service."""
        body = {"max_tokens": self.num_tokens, "temperature": 0, "ignore_eos": True}
        before = spent(stack)
        with ThreadPoolExecutor(self.streams) as pool:
            asked = [
                pool.submit(stack.complete, {"prompt": prompt, **body}, None, self.headers(number, traced=traced))
                for number, prompt in enumerate(self.prompts)
            ]
            num_tokens = sum(each.result()["usage"]["completion_tokens"] for each in asked)
        time.sleep(DRAIN_S)
        after = spent(stack)
        return {name: 1_000 * (after[name] - before[name]) / num_tokens for name in SERVICES}


def spent(stack: LocalStack) -> dict[str, float]:
    """CPU seconds of each service since its start."""
    return {name: cpu_s(stack.processes[name].pid) for name in SERVICES}


def side_by_side(stacks: Sequence[LocalStack], load: Load, traced: Sequence[bool]) -> list[Cost]:
    """What each stack has spent on the same load."""
    with ThreadPoolExecutor(len(stacks)) as pool:
        running = [pool.submit(load.run, stack, traced=flag) for stack, flag in zip(stacks, traced, strict=True)]
        return [each.result() for each in running]


def compare(stacks: Sequence[LocalStack], load: Load, pairs: int) -> list[tuple[Cost, Cost]]:
    """The rounds, as (traced, not traced), both rounds of a pair one after the other."""
    rounds = []
    for number in range(pairs):
        first, second = side_by_side(stacks, load, (True, False)), side_by_side(stacks, load, (False, True))
        rounds += [(first[0], first[1]), (second[1], second[0])]
        on, off = (sum(sum(pair[side].values()) for pair in rounds[-2:]) / 2 for side in (0, 1))
        ratio = math.exp(overheads(rounds[-2:])[0])
        print(f"pair {number + 1:2}: traced {on:.3f} ms/token, not {off:.3f}, ratio {ratio:.4f}", flush=True)
    return rounds


def overheads(rounds: Sequence[tuple[Cost, Cost]]) -> list[float]:
    """Of each pair of rounds the logarithm of what tracing multiplies the cost by."""
    logs = [math.log(sum(on.values()) / sum(off.values())) for on, off in rounds]
    return [statistics.fmean(both) for both in zip(logs[::2], logs[1::2], strict=True)]


@dataclass(frozen=True, slots=True)
class Overhead:
    """Relative, with its 95 % interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, logs: Sequence[float]) -> Overhead:
        """By Hodges and Lehmann, between Wilcoxon's signed ranks: a disturbed pair counts as one, however far off.

        Fewer than six pairs can show nothing with 95 %: their interval has no end.
        """
        means = sorted((logs[one] + logs[other]) / 2 for one in range(len(logs)) for other in range(one + 1))
        left_out = _ranks_left_out(len(logs))
        ends = (-math.inf, math.inf) if left_out is None else (means[left_out], means[-1 - left_out])
        return cls(*(math.expm1(log) for log in (statistics.median(means), *ends)))

    @property
    def is_shown(self) -> bool:
        """That it is within the goal."""
        return self.high <= GOAL

    def __str__(self) -> str:
        return f"{self.value:+.2%}, 95 % interval {self.low:+.2%} to {self.high:+.2%}"


def _ranks_left_out(count: int) -> int | None:
    """How many of the pairwise means lie outside the interval on each side, None where even all are too few.

    The largest k with P(W < k + 1) <= 2.5 %, W the sum of those ranks of 1..count whose sign a coin gives.
    """
    ways = [1]  # by sum of the ranks so far
    for rank in range(1, count + 1):
        without, with_it = ways + [0] * rank, [0] * rank + ways
        ways = [one + other for one, other in zip(without, with_it, strict=True)]
    below = [total for total in accumulate(ways) if total <= 0.025 * 2**count]
    return len(below) - 1 if below else None


def tell(rounds: Sequence[tuple[Cost, Cost]]) -> None:
    """Print both sides, by service and together."""
    for name in SERVICES:
        on, off = (statistics.fmean(pair[side][name] for pair in rounds) for side in (0, 1))
        print(f"{name:9} traced {on:.3f} ms/token, not {off:.3f}, difference {1_000 * (on - off):+.0f} us")
    on, off = (statistics.fmean(sum(pair[side].values()) for pair in rounds) for side in (0, 1))
    print(f"together  traced {on:.3f} ms/token, not {off:.3f}, difference {1_000 * (on - off):+.0f} us")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when the overhead is shown to be within the goal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--requests", type=int, default=10)
    parser.add_argument("--streams", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--share", type=float, default=0.1)
    options = parser.parse_args(arguments)
    prompts = source_prompts(options.requests, seed=5, max_chars=300)
    load = Load(prompts, options.streams, options.tokens, options.share)
    with receiver() as (endpoint, sizes):
        exported = {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{endpoint}/v1/traces",
            "OTEL_BSP_SCHEDULE_DELAY": f"{1_000 * EXPORT_S:.0f}",
        }
        policy = {"selector": {"POLICY": "paper"}}
        with local_stack(policy, environment=exported) as one, local_stack(policy, environment=exported) as other:
            side_by_side([one, other], load, (True, True))  # warms up
            rounds = compare([one, other], load, options.pairs)
    tell(rounds)
    print(f"{len(sizes)} exports, {sum(sizes) / 1e6:.2f} MB of spans")
    overhead = Overhead.of(overheads(rounds))
    verdict = "shown" if overhead.is_shown else "NOT SHOWN"
    print(f"overhead at {options.share:.0%}: {overhead}; at most {GOAL:.0%}: {verdict}")
    return 0 if overhead.is_shown else 1


if __name__ == "__main__":
    sys.exit(main())
