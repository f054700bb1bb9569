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
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from tests.faults.lab import Lab, laboratory
from tests.faults.run import FAILURES, simulate

BLOCK = 200  # seeds that a process runs before it reports
REACHED = (
    "commit FENCED",
    "reclaim",
    "takeover",
    "fallback",
    "reseed OK by verifier",
    "reseed OK by gateway",
)
"""Ways of recovery that a campaign must have gone, or it has shown nothing about them."""
ENOUGH = 1000  # runs of a campaign that must have gone them all


@dataclass
class Campaign:
    """Many runs: what they reached, and the first failure of each seed that failed."""

    ends: Counter[str] = field(default_factory=Counter)
    reached: Counter[str] = field(default_factory=Counter)
    failures: dict[int, str] = field(default_factory=dict)
    num_runs: int = 0

    def add(self, other: Campaign) -> None:
        self.ends.update(other.ends)
        self.reached.update(other.reached)
        self.failures |= other.failures
        self.num_runs += other.num_runs

    @property
    def unreached(self) -> list[str]:
        """Ways of recovery that no run has gone, of a campaign that is large enough to be asked."""
        return [name for name in REACHED if not self.reached[name]] if self.num_runs >= ENOUGH else []


def campaign(lab: Lab, seeds: range) -> Campaign:
    """Runs the seeds in order."""
    done = Campaign()
    for seed in seeds:
        done.num_runs += 1
        try:
            result = simulate(lab, seed)
        except FAILURES as error:
            done.failures[seed] = f"{type(error).__name__}: {error}"
            continue
        if result.breaches:
            done.failures[seed] = result.breaches[0]
        done.ends.update(result.ends)
        done.reached.update(result.reached)
    return done


def blocks(seeds: range, jobs: int) -> Iterator[Campaign]:
    """The seeds in blocks, run by so many processes, each with a server of its own; in order."""
    parts = [seeds[start : start + BLOCK] for start in range(0, len(seeds), BLOCK)]
    processes = ProcessPoolExecutor(jobs)
    try:
        yield from processes.map(run_block, parts)
    finally:
        processes.shutdown(cancel_futures=True)


def run_block(seeds: range) -> Campaign:
    """In a process of its own."""
    logging.disable(logging.CRITICAL)
    with laboratory() as lab:
        return campaign(lab, seeds)


def reproduction(seed: int) -> str:
    """The line that runs one seed again."""
    return f"python -m tests.faults.simulation --first {seed} --seeds 1"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--failures", type=int, default=10, help="stop after so many")
    parser.add_argument("--trace", action="store_true", help="only the first seed, with its traceback")
    chosen = parser.parse_args()
    if chosen.trace:
        logging.disable(logging.CRITICAL)
        with laboratory() as lab:
            print(simulate(lab, chosen.first))
        return
    started = time.perf_counter()
    done = Campaign()
    for part in blocks(range(chosen.first, chosen.first + chosen.seeds), chosen.jobs):
        done.add(part)
        for seed, text in part.failures.items():
            print(f"{reproduction(seed)}\n    {text}", flush=True)
        if len(done.failures) >= chosen.failures:
            break
    raise SystemExit(report(done, time.perf_counter() - started))


def report(done: Campaign, took_s: float) -> bool:
    """Prints what was done; whether it is not what a campaign must be."""
    print(f"{done.num_runs} seeds, {len(done.failures)} failed, {done.num_runs / took_s:.1f} runs/s")
    print("clients:", ", ".join(f"{name} {count}" for name, count in done.ends.most_common()))
    print("reached:", ", ".join(f"{name} {count}" for name, count in sorted(done.reached.items())))
    if done.unreached:
        print("never reached:", ", ".join(done.unreached))
    return bool(done.failures or done.unreached)


if __name__ == "__main__":
    main()
