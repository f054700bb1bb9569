"""Microseconds that the selector's decision takes: vectorised selection against heaps, and whole policies.

    python -m bench.selection_speed [--repetitions 300] [--seed 0] [--json]

Candidate trees of depth 8 and width 3 (bench/instances.py), half of the requests behind their target. All sides
are timed in turn on the same batches; medians. `select` is algorithm 2's selection alone, the same work as the
heaps'; `decide` adds what a message needs around it: prompts, a padded latency model, prediction, A(r), control,
and for ours calibration, weights and purchase. The heaps get their trees as Python lists for nothing. Noise is the
90th percentile over the median of one fixed sort, taken all along.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial

import numpy as np

from bench.instances import DEPTH, WIDTH, candidates, draw_trees, requests
from bench.listings import algorithm_2
from services.selector.control import PolicySettings
from services.selector.policy import decide
from services.selector.selection import Selection, select
from shared.calibration import Calibration
from shared.labels import LabelCounts
from shared.latency import LatencyModel
from shared.messages import REQUEST_ID, TRACEPARENT, CandidateTrees
from shared.tree import TokenTree

SIZES = [(1, 16), (16, 128), (64, 256), (64, 512), (256, 512), (256, 1024)]  # n requests, B tokens
CALIBRATIONS = {"paper": None, "adaserve": Calibration.fit(LabelCounts.none())}
POLICIES = {"paper": PolicySettings(policy="paper"), "adaserve": PolicySettings()}
SELECT_GOALS_US = {64: 150.0, 256: 400.0}
DECIDE_GOALS_US = {"adaserve": {64: 500.0, 256: 1000.0}}
TABLE = LatencyModel(
    tokens=(1, 64, 512, 2048),
    ms=(20.0, 24.0, 45.0, 150.0),
    context_ms=0.05,
    row_ms=0.01,
    buckets=tuple(range(8, 513, 8)),
)
NUM_BATCHES = 8  # timed in turn, so that no side lives on one batch's branches and cache lines
HEAP_SHARE = 0.1  # of the repetitions: heaps take milliseconds

Call = Callable[[], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Medians in µs for one batch size; `decide_us` by policy."""

    num_requests: int
    budget: int
    heaps_us: float
    select_us: float
    decide_us: dict[str, float]
    noise: float


def measure(rng: np.random.Generator, num_rows: int, budget: int, repetitions: int) -> Line:
    """Time every side on NUM_BATCHES batches. Raises SystemExit where heaps and arrays choose different nodes."""
    batches = [draw_batch(rng, num_rows) for _ in range(NUM_BATCHES)]
    vectorised, heaps = zip(*(selections(batch, budget) for batch in batches), strict=True)
    sides: dict[str, Sequence[Call]] = {"noise": [partial(np.sort, rng.random(4096))], "select": vectorised}
    for name, settings in POLICIES.items():
        sides[name] = [
            partial(decide, batch, TABLE, replace(settings, budget=budget), CALIBRATIONS[name])
            for batch in batches
        ]
    times = time_in_turn(sides, repetitions)
    times |= time_in_turn({"heaps": heaps}, max(NUM_BATCHES, round(HEAP_SHARE * repetitions)))
    medians = {name: statistics.median(values) for name, values in times.items()}
    return Line(
        num_requests=num_rows,
        budget=budget,
        heaps_us=medians["heaps"],
        select_us=medians["select"],
        decide_us={name: medians[name] for name in POLICIES},
        noise=statistics.quantiles(times["noise"], n=10)[-1] / medians["noise"],
    )


def selections(batch: CandidateTrees, budget: int) -> tuple[Call, Call]:
    """The same selection with arrays and with heaps, checked to choose the same nodes."""
    trees, num_rows = list(batch.trees()), len(batch.request)
    needed = np.where(np.isfinite(batch.tpot_ms), 1.9, 0.0)
    room, max_slo_nodes = budget - num_rows, math.ceil(1.2 * budget / num_rows)
    columns = candidates(trees)

    def vectorised() -> Selection:  # on a copy, as what is derived from the columns stays with their object
        return select(replace(columns), needed, room=room, max_slo_nodes=max_slo_nodes)

    heaps = partial(algorithm_2, requests(trees, needed), room, max_slo_nodes)
    nodes = [
        node + start for start, row in zip(batch.tree_offsets.tolist(), heaps(), strict=False) for node in row
    ]
    if vectorised().nodes.tolist() != nodes:
        raise SystemExit("heaps and arrays choose different nodes")
    return vectorised, heaps


def time_in_turn(sides: dict[str, Sequence[Call]], repetitions: int) -> dict[str, list[float]]:
    """µs of every call; each round calls each side once. No garbage collection meanwhile, as in timeit."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    gc.disable()
    for repetition in range(repetitions):
        for name, calls in sides.items():
            call = calls[repetition % len(calls)]
            start = time.perf_counter()
            call()
            times[name].append((time.perf_counter() - start) * 1e6)
    gc.enable()
    return times


def draw_batch(rng: np.random.Generator, num_rows: int) -> CandidateTrees:
    """A drafter's message; every other request has a target, somewhat behind its time."""
    trees: list[TokenTree] = draw_trees(rng, num_rows)
    tree_columns = candidates(trees)
    return CandidateTrees(
        verifier="v.1",
        drafter="d.1",
        ring=0,
        step=1,
        depth=DEPTH,
        width=WIDTH,
        prefill_tokens=1024,
        prefill_slack_ms=math.inf,
        profile="bench",
        overhead_ms=40.0,
        calibration="",
        level_ms=2.0,
        draft_ms=8.0,
        request=np.frombuffer(rng.bytes(16 * num_rows), REQUEST_ID),
        epoch=np.arange(1, num_rows + 1, dtype=np.uint64),
        position=np.full(num_rows, 100, np.int32),
        acknowledged=np.full(num_rows, 100, np.int32),
        temperature_bucket=np.zeros(num_rows, np.uint8),
        tpot_ms=np.where(np.arange(num_rows) % 2, np.inf, 36.0).astype(np.float32),
        elapsed_ms=rng.uniform(2000.0, 2050.0, num_rows).astype(np.float32),
        committed=np.full(num_rows, 57, np.int32),
        weight=np.ones(num_rows, np.float32),
        max_depth=np.full(num_rows, DEPTH, np.uint8),
        warm=np.zeros(num_rows, np.bool_),
        tree_offsets=tree_columns.offsets.astype(np.int32),
        tokens=np.concatenate([tree.tokens for tree in trees]),
        parents=tree_columns.parents.astype(np.int16),
        logprobs=tree_columns.logprobs,
        trace_row=np.empty(0, np.int32),
        traceparent=np.empty(0, TRACEPARENT),
    )


def print_line(line: Line) -> None:
    """One size: the selection, then each policy beside its goal."""
    goal = SELECT_GOALS_US.get(line.num_requests)
    selection = f"heaps {line.heaps_us:7.0f} µs   select {line.select_us:5.0f} µs{_verdict(line.select_us, goal)}"
    ratio = f"ratio {line.heaps_us / line.select_us:5.1f}   noise {line.noise:.2f}"
    print(f"n {line.num_requests:3d}  B {line.budget:4d}   {selection}   {ratio}")
    for name, spent in line.decide_us.items():
        goal = DECIDE_GOALS_US.get(name, {}).get(line.num_requests)
        print(f"{'':16s} decide, {name:10s} {spent:5.0f} µs{_verdict(spent, goal)}")


def _verdict(spent: float, goal: float | None) -> str:
    if goal is None:
        return ""
    return f" (goal {goal:.0f} µs: {'reached' if spent <= goal else 'NOT REACHED'})"


def is_reached(line: Line) -> bool:
    """Whether the selection, and every policy that has a goal for this size, keeps it."""
    n = line.num_requests
    return line.select_us <= SELECT_GOALS_US.get(n, math.inf) and all(
        spent <= DECIDE_GOALS_US.get(name, {}).get(n, math.inf) for name, spent in line.decide_us.items()
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when all goals are reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    rng = np.random.default_rng(options.seed)
    lines = []
    for num_rows, budget in SIZES:
        lines.append(measure(rng, num_rows, budget, max(options.repetitions, NUM_BATCHES)))
        if not options.json:
            print_line(lines[-1])
    if options.json:
        print(json.dumps([asdict(line) for line in lines], indent=2))
    return 0 if all(map(is_reached, lines)) else 1


if __name__ == "__main__":
    sys.exit(main())
