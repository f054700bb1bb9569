"""What tracing costs: CPU time of all services per output token, a tenth of the requests traced against none.

    python -m bench.tracing [--pairs 12] [--requests 20] [--streams 2] [--tokens 64] [--share 0.1]

Two stacks export to a receiver in this process, whose time does not count. Both get the same requests at the same
time, so that whatever else the machine does slows both; the client says by its `traceparent` which are traced. In
a pair of rounds each stack has each part once: what one stack is slower than the other cancels out. A round ends
after its spans have been exported.
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
from typing import TypeAlias

from bench.gateway_load.processes import cpu_s
from bench.local import SERVICES, LocalStack, local_stack
from bench.prompts import source_prompts

Cost: TypeAlias = Mapping[str, float]  # by service

GOAL = 0.02
DRAIN_S = 6.0  # the SDK exports every 5 s


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
        print(f"pair {number + 1:2}: traced {on:.3f} ms/token, not {off:.3f}, ratio {on / off:.4f}", flush=True)
    return rounds


def told(rounds: Sequence[tuple[Cost, Cost]]) -> tuple[float, float, float]:
    """Prints both sides by service; the pairs' median and mean overhead, with the latter's standard error."""
    for name in SERVICES:
        on, off = (statistics.fmean(pair[side][name] for pair in rounds) for side in (0, 1))
        print(f"{name:9} traced {on:.3f} ms/token, not {off:.3f}, difference {1_000 * (on - off):+.0f} us")
    logs = [math.log(sum(on.values()) / sum(off.values())) for on, off in rounds]
    pairs = [statistics.fmean(both) for both in zip(logs[::2], logs[1::2], strict=True)]
    error = statistics.stdev(pairs) / math.sqrt(len(pairs)) if len(pairs) > 1 else math.inf
    return math.expm1(statistics.median(pairs)), math.expm1(statistics.fmean(pairs)), error


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when the median overhead is within the goal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--requests", type=int, default=20)
    parser.add_argument("--streams", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--share", type=float, default=0.1)
    options = parser.parse_args(arguments)
    prompts = source_prompts(options.requests, seed=5, max_chars=300)
    load = Load(prompts, options.streams, options.tokens, options.share)
    with receiver() as (endpoint, sizes):
        exported = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{endpoint}/v1/traces"}
        policy = {"selector": {"POLICY": "paper"}}
        with local_stack(policy, environment=exported) as one, local_stack(policy, environment=exported) as other:
            side_by_side([one, other], load, (True, True))  # warms up
            rounds = compare([one, other], load, options.pairs)
    median, mean, error = told(rounds)
    print(f"{len(sizes)} exports, {sum(sizes) / 1e6:.2f} MB of spans")
    reached = median <= GOAL  # one disturbed pair moves the mean by itself
    said = f"overhead at {options.share:.0%}: median {median:+.2%}, mean {mean:+.2%} +- {2 * error:.2%}"
    print(f"{said}, goal {GOAL:.0%}: {'reached' if reached else 'NOT REACHED'}")
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
