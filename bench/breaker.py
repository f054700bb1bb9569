"""What a hundredfold slower drafter costs: throughput with speculation asked for against speculation switched off.

    python -m bench.breaker [--rounds 5] [--streams 8] [--tokens 128]

Both sides run in turn on one running stack whose drafter sleeps 99 times as long as it computes. Prints tokens per
second of each round and the median of the paired ratios; the goal is 0.9.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from bench.local import LocalStack, local_stack
from bench.prompts import source_prompts

GOAL = 0.9


def tokens_per_second(stack: LocalStack, prompts: Sequence[str], num_tokens: int, *, speculation: bool) -> float:
    """All prompts at once, greedy, to their full length."""

    def complete(prompt: str) -> int:
        body = {"prompt": prompt, "max_tokens": num_tokens, "temperature": 0, "ignore_eos": True}
        answer = stack.complete({**body, "adaserve": {"speculation": {"enabled": speculation}}})
        return int(answer["usage"]["completion_tokens"])

    start = time.monotonic()
    with ThreadPoolExecutor(len(prompts)) as pool:
        total = sum(pool.map(complete, prompts))
    return total / (time.monotonic() - start)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when the goal is reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=128)
    options = parser.parse_args(arguments)
    prompts = source_prompts(options.streams, seed=3)
    ratios = []
    with local_stack() as stack:
        stack.kill("drafter")
        stack.start("drafter", "bench.slow_drafter")
        stack.wait_ready("drafter")
        time.sleep(2.0)  # until the verifier has chosen it
        for _ in range(options.rounds):
            on = tokens_per_second(stack, prompts, options.tokens, speculation=True)
            off = tokens_per_second(stack, prompts, options.tokens, speculation=False)
            ratios.append(on / off)
            print(f"slow drafter {on:7.1f} tokens/s   speculation off {off:7.1f} tokens/s   ratio {on / off:.3f}")
        misses = [line for line in stack.metrics("verifier").splitlines() if "ring_misses_total{" in line]
    median = statistics.median(ratios)
    print(*misses, sep="\n")
    print(f"median ratio {median:.3f}, goal {GOAL}: {'reached' if median >= GOAL else 'NOT REACHED'}")
    return 0 if median >= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
