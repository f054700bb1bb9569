"""A fair rival: the constants c1 and c2 of eqs. 8 and 9 for the paper's policy, found by grid search.

    python -m bench.simulator.tuning [--hardware llama70b-4xa100] [--seeds 3] [--workloads paper:rps=4.8 …]

The paper gives no values. Prints the mean attainment of each pair over the workloads, best last.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.progress import Progress

from bench.simulator.simulate import reports

DEPTH_OFFSETS = (0, 32, 64, 128, 256)  # c1
WIDTH_OFFSETS = (0, 1, 2)  # c2
WORKLOADS = ("paper:rps=2.6", "paper:rps=4.0", "paper:rps=4.8")


def search(
    hardware: str, workloads: Sequence[str], seeds: Sequence[int], console: Console
) -> list[tuple[float, int, int]]:
    """(mean attainment, c1, c2), ascending."""
    grid = list(itertools.product(DEPTH_OFFSETS, WIDTH_OFFSETS))
    cases = [
        (trace, hardware, f"adaserve-paper:depth_offset={c1},width_offset={c2}")
        for c1, c2 in grid
        for trace in workloads
    ]
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("searching", total=len(cases) * len(seeds))
        found = [
            report.attainment.mean or 0.0
            for report, _ in reports(cases, seeds, done=lambda: progress.advance(task))
        ]
    means = [statistics.fmean(found[i : i + len(workloads)]) for i in range(0, len(found), len(workloads))]
    return sorted((mean, c1, c2) for mean, (c1, c2) in zip(means, grid, strict=True))


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the grid."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hardware", default="llama70b-4xa100")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workloads", nargs="+", default=list(WORKLOADS))
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    for mean, c1, c2 in search(options.hardware, options.workloads, range(1, options.seeds + 1), console):
        print(f"c1 = {c1:3}  c2 = {c2}  attainment {mean:6.2f} %")
    return 0


if __name__ == "__main__":
    sys.exit(main())
