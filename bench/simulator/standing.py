"""Where our policy stands: against the paper's, the best fixed budget and every rival, on every trace and machine.

    python -m bench.simulator.standing --traces FOLDER [--seeds 3] [--only fig8] [--presets relaxed]
                                       [--draft-step-ms 2.5] [--systems …] [--json]

Every system meets the same texts, so differences are paired. A fixed budget is the paper's policy with another B;
the shallow ones are that policy with other depths as well, tuned by hand. Goals: not behind any fixed budget and
at most a point behind any system, first tokens at most 1.2 times as late (p99) as Sarathi's under the same cap of
requests.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from bench.report import Estimate, Report, attainment, paired_difference, percentiles
from bench.simulator.hardware import PROFILES
from bench.simulator.simulate import reports
from bench.simulator.systems import SYSTEMS

BUDGETS = (128, 192, 256, 384)
SHALLOW = ("depth_offset=64", "depth_offset=64,budget=192", "min_depth=1,max_depth=3,budget=128")  # tuned by hand
OURS, PAPER, CAPPED = "adaserve", "adaserve-paper", "sarathi-capped"
RIVALS = tuple(name for name in SYSTEMS if name not in (OURS, PAPER))
FIXED = tuple(f"{PAPER}:budget={budget}" for budget in BUDGETS)
MOST_BEHIND, MOST_TTFT = 1.0, 1.2
ROUNDING = 0.1  # points that are nobody's lead
TUNED = tuple(f"{PAPER}:{settings}" for settings in SHALLOW)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a line for each trace and machine, and at the end where a goal is missed: then exit code 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="")
    parser.add_argument("--presets", nargs="*", default=[], help="workloads made here, beside the traces")
    parser.add_argument("--systems", nargs="+", default=[OURS, PAPER, *FIXED, *TUNED, *RIVALS])
    parser.add_argument("--draft-step-ms", type=float)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if options.systems[0] != OURS:
        parser.error(f"--systems must begin with {OURS}")
    files = sorted(path for path in options.traces.glob("*.csv") if path.name.startswith(options.only))
    traces = [*map(str, files), *options.presets]
    cases = [(trace, hardware, name) for trace in traces for hardware in PROFILES for name in options.systems]
    seeds = range(1, options.seeds + 1)
    rows: dict[tuple[str, str], dict[str, Report]] = {}
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("simulating", total=len(cases) * len(seeds))
        found = reports(cases, seeds, draft_step_ms=options.draft_step_ms, done=lambda: progress.advance(task))
        for (trace, hardware, name), (report, _) in zip(cases, found, strict=True):
            place = (Path(trace).stem if trace.endswith(".csv") else trace, hardware)
            rows.setdefault(place, {})[name] = report
            if len(rows[place]) == len(options.systems):
                _print(*place, rows[place], as_json=options.json)
    missed = [f"{' on '.join(place)}: {words}" for place, systems in rows.items() for words in shortfalls(systems)]
    for words in missed:
        print("NOT REACHED:", words, file=sys.stderr if options.json else sys.stdout)
    return int(bool(missed))


def shortfalls(systems: Mapping[str, Report]) -> list[str]:
    """Which goals are missed on one trace and machine, in words."""
    found = []
    for name in systems:
        lead = _lead(systems, name)
        if name == PAPER or name in FIXED:
            if (lead.mean or 0.0) < -ROUNDING:
                found.append(f"behind the fixed budget of {name} by {-(lead.mean or 0.0):.2f} points")
        elif (lead.mean or 0.0) < -MOST_BEHIND:
            found.append(f"behind {name} by {-(lead.mean or 0.0):.2f} points")
    ratio = _ttft_ratio(systems)
    if ratio is not None and ratio > MOST_TTFT:
        found.append(f"first tokens {ratio:.2f} times as late as {CAPPED}'s")
    return found


def _lead(systems: Mapping[str, Report], name: str) -> Estimate:
    """Points that we are ahead, seed by seed."""
    ours, theirs = systems[OURS], systems[name]
    pairs = ([attainment(report.runs[seed]) or 0.0 for seed in ours.runs] for report in (ours, theirs))
    return paired_difference(*pairs)


def _mean(report: Report) -> float:
    return report.attainment.mean or 0.0


def _ttft_p99_ms(report: Report) -> float | None:
    return percentiles(outcome.ttft_ms for outcome in report.outcomes)["p99"]


def _ttft_ratio(systems: Mapping[str, Report]) -> float | None:
    """Of our p99 to that of Sarathi under our cap of requests, the fair comparison."""
    ours, theirs = (_ttft_p99_ms(systems[name]) if name in systems else None for name in (OURS, CAPPED))
    return ours / theirs if ours and theirs else None


def _print(trace: str, hardware: str, systems: dict[str, Report], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps([report.json() for report in systems.values()]), flush=True)
        return
    ratio = _ttft_ratio(systems)
    told = "" if ratio is None else f": first tokens (p99) {ratio:.2f} times {CAPPED}"
    print(f"{trace} on {hardware}{told}", flush=True)
    for name, report in sorted(systems.items(), key=lambda item: -_mean(item[1])):
        spread = "" if report.attainment.ci95 is None else f" ± {report.attainment.ci95:4.2f}"
        figures = (
            f"goodput {report.goodput.mean or 0:6.0f} tokens/s   TTFT p99 {_ttft_p99_ms(report) or 0:7.0f} ms"
        )
        print(f"    {name:50} {_mean(report):6.2f}{spread} %   {figures}   {_signed(systems, name)}", flush=True)


def _signed(systems: Mapping[str, Report], name: str) -> str:
    if name == OURS:
        return ""
    lead = _lead(systems, name)
    return f"ours {lead.mean or 0.0:+.2f}{'' if lead.ci95 is None else f' ± {lead.ci95:.2f}'}"


if __name__ == "__main__":
    sys.exit(main())
