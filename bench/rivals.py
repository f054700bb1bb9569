"""The running system against its own rivals, under open-loop load in steps up to saturation.

    python -m bench.rivals [--target DIR --draft DIR] [--systems adaserve paper chain4 plain]
                           [--workload relative:seconds=20,lengths=0.25,coding=6,chatbot=8,summarization=24]
                           [--loads 1 2 4 8] [--rounds 3] [--out DIR] [--json]

At each load, every round replays one trace (same arrivals, prompts and seeds) on each system in turn, on the same
running stack; who is first changes with the round. Prints both sides of every figure, the ceiling that the load
sets, and the paired differences of the first system from the others with 95 % intervals. Targets relative to the
zero-load latency use what the verifier measured once, for all systems. The steps end early when no system attains
10 %. Every run's figures are compared with the gateway's own counters; the exit code is 1 where they differ, and
where, of two rounds or more, the first system is below another one beyond paired noise or ahead of it at no load.
``--out`` gets
`rivals.json` and, with the extra `plots`, `rivals.svg` and `rivals.png`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from bench.local import DRAFT, TARGET, LocalStack, local_stack
from bench.replay.plan import Server, Wishes
from bench.replay.probe import probe
from bench.replay.replay import Limits, Run, connected, replay, report
from bench.report import Estimate, Report, attainment, goodput
from bench.rival_rounds import Load, offered_tokens_per_s, verdict
from bench.rival_systems import NAMES, System, switch, system
from bench.workloads import load_trace
from shared.errors import AdaServeError

WORKLOAD = "relative:seconds=20,lengths=0.25,coding=6,chatbot=8,summarization=24"
SATURATED = 10.0  # percent of attainment that some system must still reach


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What is compared on a running stack."""

    stack: LocalStack
    server: Server
    systems: Sequence[System]
    workload: str
    rounds: int
    limits: Limits
    console: Console

    def at(self, rps: float) -> Load:
        """All rounds of all systems at one load."""
        runs: dict[str, dict[int, Run]] = {one.name: {} for one in self.systems}
        for seed in range(self.rounds):
            first = seed % len(self.systems)
            for one in (*self.systems[first:], *self.systems[:first]):
                switch(self.stack, one)
                runs[one.name][seed] = asyncio.run(self._run(one, rps, seed))
                self._say(one.name, rps, seed, runs[one.name][seed])
        some = next(iter(runs.values()))
        return Load(
            rps=rps,
            offered=offered_tokens_per_s({seed: run.planned for seed, run in some.items()}),
            reports=[
                report(at_rate(self.workload, rps), self.server, name, of_system)
                for name, of_system in runs.items()
            ],
            unequal=[
                f"{name}, round {seed}"
                for name, of_system in runs.items()
                for seed, run in of_system.items()
                if run.server != run.tally
            ],
        )

    async def _run(self, one: System, rps: float, seed: int) -> Run:
        trace = load_trace(at_rate(self.workload, rps), seed)
        wishes = Wishes(seed=seed, speculation=one.speculation)
        urls = [
            f"http://127.0.0.1:{self.stack.ports[name]}/metrics" for name in ("drafter", "selector", "verifier")
        ]
        async with connected(self.stack.url) as client:
            return await replay(
                client, trace, self.server, wishes, prompts={}, limits=self.limits, metrics_urls=urls
            )

    def _say(self, name: str, rps: float, seed: int, run: Run) -> None:
        failed = sum(outcome.failure is not None for outcome in run.outcomes)
        theirs = run.server
        self.console.print(
            f"{rps:g} req/s, round {seed}: {name:<9} {attainment(run.outcomes) or 0.0:5.1f} % attained, goodput "
            f"{goodput(run.outcomes) or 0.0:7.1f} tokens/s, {failed} of {len(run.planned)} failed; the server "
            f"counted {f'{theirs.attained} of {theirs.judged}' if theirs else 'nothing'} attained"
        )


def at_rate(workload: str, rps: float) -> str:
    """The workload's name with that many requests per second."""
    return f"{workload}{',' if ':' in workload else ':'}rps={rps:g}"


async def server_of(stack: LocalStack) -> Server:
    """The zero-load latency is the verifier's own, the same for all systems."""
    async with connected(stack.url) as client:
        return await probe(client, {}, stack.zero_load_ms())


def compare(comparison: Comparison, loads: Sequence[float]) -> list[Load]:
    """Load by load, until none is left or all systems are saturated."""
    done: list[Load] = []
    for rps in loads:
        done.append(comparison.at(rps))
        for line in describe(done[-1]):
            comparison.console.print(line)
        if done[-1].best < SATURATED:
            comparison.console.print(f"no system attains {SATURATED:g} %: heavier loads are left out")
            break
    return done


def describe(load: Load) -> list[str]:
    """Lines for people."""
    ours = load.reports[0].system
    lines = [
        f"{load.rps:g} requests/s, {len(load.reports[0].runs)} rounds, {load.offered:.1f} tokens/s asked for:"
    ]
    lines += [_line(each) for each in load.reports]
    for rival, (points, tokens) in load.differences().items():
        lines.append(
            f"  {ours} − {rival}: attainment {_signed(points)} points, goodput {_signed(tokens)} tokens/s, paired"
        )
    return lines + [f"  NOT THE SERVER'S FIGURES: {name}" for name in load.unequal]


def _line(each: Report) -> str:
    found = each.json()
    tpot, ttft = found["tpot_ms"], found["ttft_ms"]
    return (
        f"  {each.system:<9} attained {_plain(each.attainment)} %   goodput {_plain(each.goodput)} tokens/s   "
        f"TPOT p50 {tpot['p50']} p99 {tpot['p99']} ms   TTFT p50 {ttft['p50']} p99 {ttft['p99']} ms   "
        f"tokens per verification {found['tokens_per_verification']}"
    )


def _plain(estimate: Estimate) -> str:
    return f"{estimate.mean or 0.0:6.1f}" + ("" if estimate.ci95 is None else f" ± {estimate.ci95:.1f}")


def _signed(estimate: Estimate) -> str:
    return f"{estimate.mean or 0.0:+.1f}" + ("" if estimate.ci95 is None else f" ± {estimate.ci95:.1f}")


def write(loads: Sequence[Load], server: Server, workload: str, folder: Path) -> list[Path]:
    """The figures, and their curves where matplotlib is there."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {
        "workload": workload,
        "zero_load_ms": server.zero_load_ms,
        "loads": [load.json() for load in loads],
    }
    (folder / "rivals.json").write_text(json.dumps(found, indent=1) + "\n")
    try:
        from bench.plots import plot_curves
    except ModuleNotFoundError:
        return [folder / "rivals.json"]
    names = [report.system for report in loads[0].reports]
    curves = {name: [(load.rps, load.reports[index]) for load in loads] for index, name in enumerate(names)}
    title = f"{server.model}, {workload.partition(':')[0]} mix"
    asked = [(load.rps, load.offered) for load in loads]
    plots = [folder / "rivals.svg", folder / "rivals.png"]
    for path in plots:
        plot_curves(curves, label="load, requests/s", title=title, path=path, asked=asked)
    return [folder / "rivals.json", *plots]


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when the goals hold, 2 for options that do not fit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default=TARGET)
    parser.add_argument("--draft", default=DRAFT)
    parser.add_argument("--loads", type=float, nargs="+", default=[1.0, 2.0, 4.0, 8.0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--systems", nargs="+", default=list(NAMES))
    parser.add_argument("--workload", default=WORKLOAD)
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds for one request")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if options.rounds < 1 or min(options.loads) <= 0 or options.timeout <= 0:
        parser.error("--rounds must be at least 1, --loads and --timeout above 0")
    try:
        systems = [system(name) for name in dict.fromkeys(options.systems)]
        for rps in options.loads:
            load_trace(at_rate(options.workload, rps))
    except AdaServeError as error:
        parser.error(str(error))
    with local_stack(target=options.target, draft=options.draft) as stack:
        server = asyncio.run(server_of(stack))
        console.print(f"zero-load latency {server.zero_load_ms:.3f} ms per token, for all systems")
        comparison = Comparison(
            stack=stack,
            server=server,
            systems=systems,
            workload=options.workload,
            rounds=options.rounds,
            limits=Limits(timeout_s=options.timeout),
            console=console,
        )
        loads = compare(comparison, options.loads)
    if options.out:
        console.print("wrote", *map(str, write(loads, server, options.workload, options.out)))
    if options.json:
        print(json.dumps([load.json() for load in loads]))
    missing = verdict(loads)
    for words in missing:
        console.print(f"NOT REACHED: {words}")
    return int(bool(missing) or any(load.unequal for load in loads))


if __name__ == "__main__":
    sys.exit(main())
