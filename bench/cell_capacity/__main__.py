"""What Redis' core can do for one cell: its CPU time measured under a real cell, a formula, and what follows.

    python -m bench.cell_capacity [--seconds 6] [--share 0.5] [--json]

From a checkout: the models are tables that take their time asleep, everything else is the real system, with Redis
on a unix socket and its append-only file on. Each window is one load of one shape of trees; the CPU time of Redis'
main thread (INFO cpu) over the windows is split, by least squares, into what a second of an idle cell costs, an
iteration, a row of its commit, a drafted node, and a request. A Redis primary has one core for commands.
Another processor, TLS and a slow disk cost more: measure there.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict

from bench.cell_capacity.costs import Costs, Verifier, Window, capacity, fit, redis_us
from bench.cell_capacity.measure import PLAIN, Load, measured

SHAPES = {PLAIN: (1, 8, 32), (2, 2): (1, 8, 32), (4, 2): (1, 4, 16), (6, 3): (1, 4, 8)}
"""Depth and width of trees -> requests at a time; more than tables can draft in time would be decoded plainly."""
TOKENS = (32, 96)
EXAMPLES = (
    Verifier(name="small model, trees", running=32, step_ms=15.0, nodes=8.0, tokens=2.5),
    Verifier(name="70B on four GPUs, trees", running=32, step_ms=40.0, nodes=8.0, tokens=2.5),
    Verifier(name="70B, many requests, trees of 4", running=128, step_ms=60.0, nodes=4.0, tokens=2.0),
    Verifier(name="70B, many requests, plain", running=256, step_ms=60.0, nodes=0.0, tokens=1.0),
)
"""What step times and tokens are is for a measurement on the own machine (`adaserve profile`) to say."""


def loads() -> list[Load]:
    """Shapes by numbers of requests; short and long answers in turn, to tell requests from iterations."""
    return [
        Load(running=running, tokens=TOKENS[(number + shape) % 2], depth=depth, width=width)
        for shape, ((depth, width), numbers) in enumerate(SHAPES.items())
        for number, running in enumerate(numbers)
    ]


def report(costs: Costs, windows: Sequence[tuple[Load, Window]], share: float) -> None:
    """The measurement beside what the formula makes of it, the formula, and examples."""
    print(f"{'trees':>7} {'at a time':>9} {'iter/s':>7} {'nodes/row':>9} {'req/s':>6} {'Redis':>6} µs/iter   off")
    errors = []
    for load, seen in windows:
        error = costs.of(seen) / seen.cpu_us - 1
        errors.append(abs(error))
        shape = f"{load.depth}x{load.width}" if load.depth else "plain"
        rate, nodes = seen.iterations / seen.seconds, seen.nodes / max(1, seen.rows)
        print(
            f"{shape:>7} {load.running:>9} {rate:7.0f} {nodes:9.1f} {seen.requests / seen.seconds:6.1f} "
            f"{seen.cpu_us / seen.seconds / 1e6:6.1%} {seen.cpu_us / max(1, seen.iterations):7.0f} {error:+5.0%}"
        )
    print(f"the formula is off by {statistics.median(errors):.0%} in the median, {max(errors):.0%} at most\n")
    terms = (
        f"{costs.iteration:.0f} x iterations",
        f"{costs.ring:.0f} x iterations with trees",
        f"{costs.row:.1f} x rows",
        f"{costs.node:.2f} x nodes",
        f"{costs.request:.0f} x requests",
    )
    print(f"µs of Redis a second = {costs.idle:.0f} + {' + '.join(terms)}\n")
    print(f"with {share:.0%} of Redis' core, answers of {EXAMPLES[0].output:.0f} tokens:")
    for example in EXAMPLES:
        most, each = capacity(costs, example, share), redis_us(costs, example) / 1e6
        print(
            f"  {example.name}: {example.running} at a time, {example.step_ms:.0f} ms a step, of each "
            f"{example.nodes:g} nodes and {example.tokens:g} tokens"
        )
        print(
            f"    {each:.1%} of the core for each verifier: {most.verifiers:.0f} of them, "
            f"{most.requests_per_s:.0f} requests/s, {most.tokens_per_s:,.0f} tokens/s"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=6.0, help="of each window")
    parser.add_argument("--share", type=float, default=0.5, help="of Redis' core that a cell may use")
    parser.add_argument("--json", action="store_true", help="figures instead of a table")
    chosen = parser.parse_args()
    idle, windows, commands = measured(loads(), chosen.seconds)
    costs = fit(idle, [seen for _, seen in windows])
    if chosen.json:
        told = [{**asdict(load), **asdict(window)} for load, window in windows]
        print(json.dumps({"costs_us": asdict(costs), "idle": asdict(idle), "windows": told, "commands": commands}))
        return
    report(costs, windows, chosen.share)
    last, seen = windows[-1]
    print(f"\nthe dearest commands of the last window ({last.running} at a time), calls and µs for an iteration:")
    for name, (calls, us) in list(commands.items())[:8]:
        print(f"  {name:<14} {calls / seen.iterations:6.2f} {us / seen.iterations:8.1f}")


if __name__ == "__main__":
    main()
