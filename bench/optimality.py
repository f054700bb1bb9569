"""How far the service's selection (algorithm 2) is from the optimal trees (algorithm 1).

    python -m bench.optimality [--instances 500] [--slo-nodes-factor 1.2] [--seed 0] [--json]

Random batches as in bench/instances.py, targets of three classes with their debts, per batch size and budget.
Where algorithm 1 is INVALID it has no trees, so meets no target; `most` is how many requests any trees could
serve. A negative loss is a gain: where n_max ends a request's share before its target is reached, algorithm 2 may
expect more tokens than the optimum that does reach it.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from bench.instances import candidates, draw_trees, requests
from bench.listings import Growth, Nodes, Request, algorithm_1, algorithm_2, expected_tokens
from services.selector.control import PolicySettings
from services.selector.selection import select

SIZES = [(1, 2), (1, 4), (1, 8)] + [
    (n, n * k // 2) for n in (16, 64) for k in (3, 4, 8, 16)
]  # n requests, B tokens
SAME = 1e-12  # relative; the order of summation differs
PERIOD_MS = 45.0
TPOT_MS = [36.0, 50.0, 150.0]
SHARES = [0.6, 0.2, 0.2]
DEBT = 0.7  # standard deviation of l / t_TPOT − o, in tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One batch. Counts of requests whose A(r) is met, and expected tokens of all requests, roots included."""

    is_valid: bool  # algorithm 1 has an answer
    is_attainable: bool  # with any budget it would have one
    met: int
    met_optimal: int
    met_most: int
    tokens: float
    tokens_optimal: float
    tokens_without_targets: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One line of the table; shares of batches or of requests, in 0..1."""

    num_requests: int
    budget: int
    instances: int
    invalid: float
    unattainable: float
    mean_loss: float  # of expected tokens against algorithm 1, over its valid batches
    same: float  # of its valid batches, those where both expect as many
    met_optimal: float
    met: float
    met_most: float
    price: float  # expected tokens that the targets cost against a selection without any


def draw_needs(rng: np.random.Generator, num_rows: int) -> NDArray[np.float64]:
    """A(r) float64 [rows]: what one period owes each class, and what a request is behind or ahead."""
    tpot_ms = rng.choice(TPOT_MS, num_rows, p=SHARES)
    return np.maximum(PERIOD_MS / tpot_ms + rng.normal(0.0, DEBT, num_rows), 0.0)


def compare(rng: np.random.Generator, num_rows: int, budget: int, slo_nodes_factor: float) -> Outcome:
    """Both algorithms on one random batch."""
    trees, needed = draw_trees(rng, num_rows), draw_needs(rng, num_rows)
    batch = requests(trees, needed)
    room, max_slo_nodes = budget - num_rows, math.ceil(slo_nodes_factor * budget / num_rows)
    selection = select(candidates(trees), needed, room=room, max_slo_nodes=max_slo_nodes)
    sizes = np.diff(selection.offsets)
    starts = np.repeat(np.cumsum([0, *map(len, trees)])[:-1], sizes)
    chosen = [nodes.tolist() for nodes in np.split(selection.nodes - starts, selection.offsets[1:-1])]
    optimal = algorithm_1(batch, budget)
    costs = [nodes_needed(request) for request in batch]
    free = algorithm_2(batch, room, max_slo_nodes=0)
    return Outcome(
        is_valid=optimal is not None,
        is_attainable=all(cost < math.inf for cost in costs),
        met=num_met(batch, chosen),
        met_optimal=num_rows if optimal is not None else 0,
        met_most=int((np.cumsum(np.sort(costs)) <= room).sum()),
        tokens=total(batch, chosen),
        tokens_optimal=total(batch, optimal or []),
        tokens_without_targets=total(batch, free),
    )


def nodes_needed(request: Request) -> float:
    """Nodes that the request's target takes; infinite where its whole tree falls short."""
    growth = Growth(request)
    while growth.expected < request.needed:
        if not growth.fringe:
            return math.inf
        growth.add()
    return len(growth.nodes)


def num_met(batch: Sequence[Request], chosen: Sequence[Nodes]) -> int:
    """Requests whose expected tokens reach A(r)."""
    expected = expected_tokens(batch, chosen)
    return sum(tokens >= request.needed for request, tokens in zip(batch, expected, strict=True))


def total(batch: Sequence[Request], chosen: Sequence[Nodes]) -> float:
    """Expected tokens of all requests; 0 without trees."""
    return float(sum(expected_tokens(batch, chosen))) if chosen else 0.0


def summarise(num_requests: int, budget: int, outcomes: Sequence[Outcome]) -> Report:
    """Means over the batches of one size."""
    losses = [1 - outcome.tokens / outcome.tokens_optimal for outcome in outcomes if outcome.is_valid]
    rows = num_requests * len(outcomes)
    free = sum(outcome.tokens_without_targets for outcome in outcomes)
    return Report(
        num_requests=num_requests,
        budget=budget,
        instances=len(outcomes),
        invalid=sum(not outcome.is_valid for outcome in outcomes) / len(outcomes),
        unattainable=sum(not outcome.is_attainable for outcome in outcomes) / len(outcomes),
        mean_loss=float(np.mean(losses)) if losses else 0.0,
        same=float(np.mean(np.abs(losses) < SAME)) if losses else 1.0,
        met_optimal=sum(outcome.met_optimal for outcome in outcomes) / rows,
        met=sum(outcome.met for outcome in outcomes) / rows,
        met_most=sum(outcome.met_most for outcome in outcomes) / rows,
        price=1 - sum(outcome.tokens for outcome in outcomes) / free,
    )


def print_table(reports: Sequence[Report]) -> None:
    """One line for each batch size and budget; all shares in percent."""
    print("           algorithm 1 INVALID    against algorithm 1    requests with A(r) met    tokens that")
    print("  n    B    all   no tree can    same    mean loss      alg. 1   alg. 2    most   targets cost")
    for r in reports:
        invalid = f"{r.invalid:7.1%} {r.unattainable:12.1%}"
        against = f"{r.same:9.1%} {r.mean_loss:12.3%}"
        met = f"{r.met_optimal:11.1%} {r.met:8.1%} {r.met_most:7.1%}"
        print(f"{r.num_requests:3d} {r.budget:4d} {invalid} {against} {met} {r.price:11.2%}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, or the same numbers as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=500, help="batches per size and budget")
    parser.add_argument("--slo-nodes-factor", type=float, default=PolicySettings().slo_nodes_factor)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    rng = np.random.default_rng(options.seed)
    reports = []
    print(f"{len(SIZES)} sizes, {options.instances} instances of each: some minutes", file=sys.stderr)
    for num_rows, budget in SIZES:
        outcomes = [
            compare(rng, num_rows, budget, options.slo_nodes_factor) for _ in range(max(options.instances, 1))
        ]
        reports.append(summarise(num_rows, budget, outcomes))
    if options.json:
        print(json.dumps([asdict(report) for report in reports], indent=2))
    else:
        print_table(reports)


if __name__ == "__main__":
    main()
