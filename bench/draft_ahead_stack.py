"""Draft-ahead through the real stack: tokens per second with it and without, round by round.

    python -m bench.draft_ahead_stack [--rounds 5] [--streams 1 8] [--tokens 96] [--twin] [--modes off on]

One stack whose drafter is restarted with the other setting between rounds; greedy, one thread a service.
``--twin`` takes the enlarged target (`bench.twin`). Prints medians with ranges, the median of the paired ratios,
and the last drafter's own figures.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence

from bench.breaker import tokens_per_second
from bench.local import DRAFT, TARGET, LocalStack, local_stack
from bench.prompts import source_prompts
from bench.twin import cached_twin

SETTLE_S = 2.5  # until the verifier has chosen the drafter anew


def with_mode(stack: LocalStack, mode: str) -> None:
    """The drafter with this setting."""
    stack.restart("drafter", {**stack.settings["drafter"], "DRAFT_AHEAD": mode})
    stack.wait_ready("drafter")
    time.sleep(SETTLE_S)


def spread(values: Sequence[float]) -> str:
    """Median and range."""
    return f"{statistics.median(values):7.1f} ({min(values):.1f}-{max(values):.1f})"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--modes", nargs=2, default=["off", "on"])
    parser.add_argument("--twin", action="store_true")
    options = parser.parse_args(arguments)
    prompts = source_prompts(max(options.streams) * options.rounds, seed=3)
    target = str(cached_twin()) if options.twin else TARGET
    found: dict[tuple[str, int], list[float]] = {}
    with local_stack(target=target, draft=DRAFT) as stack:
        for index in range(options.rounds):
            for mode in options.modes:
                with_mode(stack, mode)
                for streams in options.streams:
                    own = prompts[index * streams : (index + 1) * streams]
                    tokens_per_second(stack, own, 16, speculation=True)
                    rate = tokens_per_second(stack, own, options.tokens, speculation=True)
                    found.setdefault((mode, streams), []).append(rate)
        told = [line for line in stack.metrics("drafter").splitlines() if line.startswith("adaserve_draft_ahead")]
    for streams in options.streams:
        first, second = (found[mode, streams] for mode in options.modes)
        ratios = [one / other for one, other in zip(second, first, strict=True)]
        words = "   ".join(f"{mode} {spread(found[mode, streams])}" for mode in options.modes)
        print(f"{streams} streams   {words} tokens/s   ratio {statistics.median(ratios):.3f}", flush=True)
    print(*told, sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
