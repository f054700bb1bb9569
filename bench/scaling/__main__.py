"""`python -m bench.scaling --traces FOLDER`: the chart's scaling rules against fixed sizes, on the Azure trace.

Everything of one load runs on the same requests. Deterministic: the same options give the same figures.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from bench.scaling.cell import Cell, Delays, Sizing
from bench.scaling.loads import LOADS, SIZES, made
from bench.scaling.pace import Pace, learn
from bench.scaling.plot import plot
from bench.scaling.result import Result
from bench.scaling.rules import VALUES, Rules, read_rules, scrape_period_s
from bench.scaling.sizing import Fixed, Scaled, by_cpu, only
from bench.scaling.table import Gpus, Line, line, markdown
from bench.scaling.verifier import Model
from bench.simulator.machines import hardware_named
from bench.simulator.simulate import sim_requests
from bench.simulator.systems import system_named
from bench.traces import Trace
from bench.workloads import load_trace
from shared.errors import AdaServeError
from shared.inference.blocks import BlockPool, SequenceSlots

RULES, CPU, STILL = "the chart's rules", "HPA on CPU", "fixed"
PIECE_S, PIECE_THINNED = 120.0, 5  # of the load, from which the pace is learned
SPEEDS = (0.3, 1.0, 2.0, 4.0)  # of the piece


def bounded(rules: Rules, most: int) -> Rules:
    """With room to scale: minima and maxima are a deployment's own, all else is the chart's."""
    return rules.model_copy(update={"min": 1, "max": most})


def pace_of(trace: Trace, model: str, system: str, seed: int) -> Pace:
    """Learned from a piece of the load, from its middle."""
    start_ms = trace.duration_ms / 2.0
    within = [request for request in trace.requests if start_ms <= request.arrival_ms]
    kept = [request for request in within if request.arrival_ms < start_ms + 1e3 * PIECE_S][::PIECE_THINNED]
    piece = replace(trace, requests=tuple(replace(one, arrival_ms=one.arrival_ms - start_ms) for one in kept))
    return learn(piece, hardware_named(model), system_named(system), SPEEDS, seed)


def run(trace: Trace, model: Model, sizing: Sizing, delays: Delays) -> Result:
    """One sizing on one load."""
    nowhere = SequenceSlots(BlockPool(1, 1))  # until a verifier claims a request
    lengths = np.array([request.output_tokens for request in trace.requests])
    requests = sim_requests(trace, model.hardware, lengths, lambda: nowhere)
    return Cell(model, requests, sizing, delays, scrape_period_s()).run()


def sizings(load: str, options: argparse.Namespace) -> Iterator[Sizing]:
    """Fixed ones, the chart's, the processor's, and with --apart the chart's with each metric alone."""
    verifier = bounded(read_rules("verifier", options.values), options.max)
    drafter = bounded(read_rules("drafter", options.values), options.max)
    for size in options.sizes or SIZES[load]:
        yield Fixed(size)
    yield Scaled(RULES, verifier, drafter, options.first)
    yield Scaled(CPU, by_cpu(verifier, "cpu"), by_cpu(drafter, "draftCpu"), options.first)
    if options.apart:
        for name in verifier.active:
            yield Scaled(f"{name} alone", only(verifier, name), drafter, options.first)


def load_of(name: str, options: argparse.Namespace) -> Trace:
    """One of LOADS, a made one, or the user's own."""
    if name == "made":
        trace = made(options.seconds or 1800.0, options.peak, options.seed)
    else:
        trace = load_trace(options.trace, options.seed) if name == "own" else LOADS[name](options.traces)
    return trace.head(seconds=options.seconds) if options.seconds else trace


def names_of(options: argparse.Namespace) -> Sequence[str]:
    """The loads to run."""
    if options.trace is not None:
        return ["own"]
    return options.loads or (["made"] if options.traces is None else list(LOADS))


def main(words: Sequence[str] | None = None) -> int:
    """Exit code 2 for options, traces or values that do not fit."""
    options = _options().parse_args(words)
    try:
        _main(options)
    except AdaServeError as error:
        print(f"scaling: {error}", file=sys.stderr)
        return 2
    return 0


def _main(options: argparse.Namespace) -> None:
    delays = Delays(verifier_s=options.start, drafter_s=options.start_drafter)
    shown: dict[str, tuple[Trace, list[Line], list[Result]]] = {}
    for name in names_of(options):
        began_s = time.perf_counter()
        trace = load_of(name, options)
        pace = pace_of(trace, options.hardware, options.system, options.seed)
        model = Model(hardware_named(options.hardware), system_named(options.system), pace)
        results = [run(trace, model, sizing, delays) for sizing in sizings(name, options)]
        lines = [line(result, Gpus(verifier=options.gpus, drafter=options.drafter_gpus)) for result in results]
        shown[name] = trace, lines, results
        _tell(name, trace, lines, time.perf_counter() - began_s, options)
    if options.plot:
        plot(shown, STILL, options.plot)


def _tell(name: str, trace: Trace, lines: Sequence[Line], took_s: float, options: argparse.Namespace) -> None:
    if options.json:
        for each in lines:
            print(json.dumps({"load": name, **asdict(each)}))
        return
    print(f"\n{name}: {len(trace.requests)} requests in {trace.duration_ms / 60e3:.0f} minutes ({took_s:.0f} s)\n")
    [reference] = [each for each in lines if each.sizing == RULES]
    print("\n".join(markdown(lines, reference)))


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench.scaling", description=__doc__)
    parser.add_argument(
        "--traces", type=Path, help="folder of azure_conv.csv.gz and azure_code.csv.gz; none: a made load"
    )
    parser.add_argument("--trace", help="one load of your own: a file or workload, as for adaserve simulate")
    parser.add_argument("--loads", nargs="+", choices=[*LOADS, "made"], help="all of the folder's unless given")
    parser.add_argument("--seconds", type=float, default=0.0, help="of each load; all of it unless given")
    parser.add_argument("--peak", type=float, default=8.0, help="requests a second of a made load's noon")
    parser.add_argument("--values", type=Path, default=VALUES, help="of the chart")
    parser.add_argument("--sizes", type=int, nargs="+", help="fixed numbers of verifiers")
    parser.add_argument("--first", type=int, default=3, help="verifiers at the beginning of scaled runs")
    parser.add_argument("--max", type=int, default=12, help="verifiers at most")
    parser.add_argument("--start", type=float, default=120.0, help="seconds until a new verifier serves")
    parser.add_argument("--start-drafter", type=float, default=45.0, help="and a drafter")
    parser.add_argument("--apart", action="store_true", help="each of the verifier's metrics alone, too")
    parser.add_argument("--hardware", default="llama70b-4xa100", help="as for adaserve simulate")
    parser.add_argument("--system", default="adaserve", help="as for adaserve simulate; one that drafts")
    parser.add_argument("--gpus", type=int, default=4, help="of a verifier")
    parser.add_argument("--drafter-gpus", type=int, default=1, help="of a drafter")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="an object a line")
    parser.add_argument("--plot", type=Path, help="an .svg or .png")
    return parser


if __name__ == "__main__":
    sys.exit(main())
