"""`python -m bench.scaling --traces FOLDER`: the chart's scaling rules against fixed sizes, on the Azure trace.

Fixed sizes get their drafters, and --choose weighs other thresholds, on the first half of each load; the table is
of the second half. Everything of one load and seed runs on the same requests. Deterministic: the same options give
the same figures.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bench.scaling import choose
from bench.scaling.choose import CHART
from bench.scaling.loads import LOADS
from bench.scaling.plot import plot
from bench.scaling.rules import VALUES
from bench.scaling.runs import Drawn, Runner
from bench.scaling.search import rival
from bench.scaling.study import STILL, judge, names_of, weighed
from bench.scaling.table import markdown
from shared.errors import AdaServeError


def main(words: Sequence[str] | None = None) -> int:
    """Exit code 2 for options, traces or values that do not fit."""
    options = parser().parse_args(words)
    runner = Runner(options.processes)
    try:
        if options.choose is not None:
            print("\n".join(choose.table(weighed(options, runner))))
        else:
            _judge(options, runner)
    except AdaServeError as error:
        print(f"scaling: {error}", file=sys.stderr)
        return 2
    return 0


def _judge(options: argparse.Namespace, runner: Runner) -> None:
    shown: dict[str, Drawn] = {}
    for name in names_of(options):
        began_s = time.perf_counter()
        shown[name] = drawn = judge(name, options, runner)
        _tell(name, drawn, time.perf_counter() - began_s, options)
    if options.plot:
        plot(shown, STILL, options.plot)


def _tell(name: str, drawn: Drawn, took_s: float, options: argparse.Namespace) -> None:
    if options.json:
        for case, each in ((case, each) for case, group in drawn.rows.items() for each in group):
            print(json.dumps({"load": name, "case": case, "seed": each.seed, **asdict(each.line)}))
        return
    trace = drawn.trace
    print(f"\n{name}: {len(trace.requests)} requests in {trace.duration_ms / 60e3:.0f} minutes ({took_s:.0f} s)\n")
    print("\n".join(markdown(drawn.lines, CHART)))
    print(f"\nThe cheapest of the fixed sizes that attains as much: {rival(drawn.lines, STILL, CHART)}")


def parser() -> argparse.ArgumentParser:
    """Of the command line."""
    parsing = argparse.ArgumentParser(prog="bench.scaling", description=__doc__)
    parsing.add_argument(
        "--traces", type=Path, help="folder of azure_conv.csv.gz and azure_code.csv.gz; none: a made load"
    )
    parsing.add_argument("--trace", help="one load of your own: a file or workload, as for adaserve simulate")
    parsing.add_argument("--loads", nargs="+", choices=[*LOADS, "made"], help="all of the folder's unless given")
    parsing.add_argument("--choose", nargs="*", choices=list(choose.CANDIDATES), metavar="NAME",
                         help="weigh other thresholds, all or these, on the first half")  # fmt: skip
    parsing.add_argument("--also", nargs="+", default=[], metavar="NAME=VALUE",
                         help="rules with these, too, such as verifier.running=14")  # fmt: skip
    parsing.add_argument("--seconds", type=float, default=0.0, help="of each load; all of it unless given")
    parsing.add_argument("--peak", type=float, default=8.0, help="requests a second of a made load's noon")
    parsing.add_argument("--values", type=Path, default=VALUES, help="of the chart")
    parsing.add_argument("--sizes", type=int, nargs="+", help="fixed numbers of verifiers")
    parsing.add_argument("--first", type=int, default=5, help="verifiers at the beginning of scaled runs")
    parsing.add_argument("--max", type=int, default=12, help="verifiers at most")
    parsing.add_argument("--starts", type=float, nargs="+", default=[120.0, 300.0, 900.0],
                        help="seconds until a new verifier serves; fixed sizes know the first only")  # fmt: skip
    parsing.add_argument("--start-drafter", type=float, default=45.0, help="and a drafter")
    parsing.add_argument("--apart", action="store_true", help="each of the verifier's metrics alone, too")
    parsing.add_argument("--hardware", default="llama70b-4xa100", help="as for adaserve simulate")
    parsing.add_argument("--system", default="adaserve", help="as for adaserve simulate; one that drafts")
    parsing.add_argument(
        "--real", action="store_true", help="select for real, forty times as slow: with --seconds"
    )
    parsing.add_argument("--gpus", type=int, default=4, help="of a verifier")
    parsing.add_argument("--drafter-gpus", type=int, default=1, help="of a drafter")
    parsing.add_argument("--seeds", type=int, default=3, help="so many, from 1 on; 1 leaves the load as recorded")
    parsing.add_argument("--seed", type=int, default=1, help="of a made load or a workload")
    parsing.add_argument("--processes", type=int, default=0, help="as many as processors unless given")
    parsing.add_argument("--json", action="store_true", help="an object a line")
    parsing.add_argument("--plot", type=Path, help="an .svg or .png")
    return parsing


if __name__ == "__main__":
    sys.exit(main())
