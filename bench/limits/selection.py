"""The selector's decision; the floor is a partition of as many keys as there are candidates, and nothing else."""

from __future__ import annotations

from functools import partial

import numpy as np

from bench import selection_speed
from bench.limits.figures import Figure, Floor, Section, Target
from bench.limits.placement import described
from bench.limits.run import Run
from bench.limits.timing import in_rounds, median
from bench.limits.workload import NODES

SIZES = ((16, 128), (64, 512), (256, 1024))  # requests, budget of tokens
ROUNDS = 300


def measure(run: Run) -> Section:
    """Medians of `bench.selection_speed`, for the sizes that say most."""
    rng = np.random.default_rng(0)
    figures = []
    for num_requests, budget in SIZES:
        rounds = max(run.rounds(ROUNDS), selection_speed.NUM_BATCHES)
        line = selection_speed.measure(rng, num_requests, budget, rounds)
        keys = rng.integers(0, 1 << 62, num_requests * NODES)
        partition = in_rounds({"keys": partial(np.argpartition, keys, budget)}, rounds)["keys"]
        floor = Floor(name="argpartition", value=median(partition) * 1e6)
        select_goal = selection_speed.SELECT_GOALS_US.get(num_requests)
        decide_goal = selection_speed.DECIDE_GOALS_US["adaserve"].get(num_requests)
        figures += [
            _figure(f"select, n {num_requests}", line.select_us, floor, select_goal),
            _figure(f"decide, n {num_requests}", line.decide_us["adaserve"], floor, decide_goal),
        ]
    return Section(name="selection", placement=described(), figures=figures)


def _figure(name: str, value: float, floor: Floor, limit: float | None) -> Figure:
    return Figure(
        name=name, unit="µs", value=value, floor=floor, target=None if limit is None else Target(limit=limit)
    )
