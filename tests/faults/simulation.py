"""A seeded run of a whole cell of real handlers under faults, and campaigns of such runs.

    python -m tests.faults.simulation --seeds 1000          a campaign; --first to go on where one ended
    python -m tests.faults.simulation --first 17 --seeds 1  one run again, as a failure prints it

The verifiers (engine, committer, scheduler, speculator, bus), drafters, selectors and gateways (bus, streams,
delivery, completion) are the real ones; models are tables, clock and chance are the run's, and Redis is a real
server, so that the scripts are what runs in production.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.faults.lab import Lab, laboratory
from tests.faults.run import FAILURES, simulate

PROGRESS = 1000  # runs between two signs of life


@dataclass
class Campaign:
    """Many runs: what they reached, and the first failure of each seed that failed."""

    ends: Counter[str] = field(default_factory=Counter)
    reached: Counter[str] = field(default_factory=Counter)
    failures: dict[int, str] = field(default_factory=dict)
    num_runs: int = 0


def campaign(lab: Lab, seeds: range, told: Callable[[int, str], None], most: int = 10) -> Campaign:
    """Runs the seeds in order, up to ``most`` failures."""
    done = Campaign()
    for seed in seeds:
        done.num_runs += 1
        if done.num_runs % PROGRESS == 0:
            told(seed, f"{done.num_runs} runs, {len(done.failures)} failed")
        try:
            result = simulate(lab, seed)
        except FAILURES as error:
            done.failures[seed] = f"{type(error).__name__}: {error}"
            told(seed, done.failures[seed])
            if len(done.failures) >= most:
                break
            continue
        if result.breaches:
            done.failures[seed] = result.breaches[0]
            told(seed, result.breaches[0])
        done.ends.update(result.ends)
        done.reached.update(result.reached)
    return done


def reproduction(seed: int) -> str:
    """The line that runs one seed again."""
    return f"python -m tests.faults.simulation --first {seed} --seeds 1"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--failures", type=int, default=10, help="stop after so many")
    parser.add_argument("--trace", action="store_true", help="re-raise the first failure")
    chosen = parser.parse_args()
    logging.disable(logging.CRITICAL)
    started = time.perf_counter()
    with laboratory() as lab:
        if chosen.trace:
            print(simulate(lab, chosen.first))
            return
        seeds = range(chosen.first, chosen.first + chosen.seeds)
        done = campaign(lab, seeds, lambda seed, text: print(f"{reproduction(seed)}\n    {text}"), chosen.failures)
    took = time.perf_counter() - started
    print(f"{done.num_runs} seeds, {len(done.failures)} failed, {done.num_runs / took:.1f} runs/s")
    print("clients:", ", ".join(f"{name} {count}" for name, count in done.ends.most_common()))
    print("reached:", ", ".join(f"{name} {count}" for name, count in sorted(done.reached.items())))
    raise SystemExit(bool(done.failures))


if __name__ == "__main__":
    main()
