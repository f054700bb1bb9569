"""Where our policy stands: against the paper's, the best fixed budget and every rival, on every trace and machine.

    python -m bench.simulator.standing --traces FOLDER [--seeds 3] [--only fig8] [--draft-step-ms 2.5] [--json]

Every system meets the same texts. A fixed budget is the paper's policy with another B.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from bench.report import Report, percentiles
from bench.simulator.hardware import PROFILES
from bench.simulator.simulate import reports
from bench.simulator.systems import SYSTEMS

BUDGETS = (128, 192, 256, 384)
SHALLOW = ("depth_offset=64", "depth_offset=64,budget=192", "min_depth=1,max_depth=3,budget=128")  # tuned by hand
OURS, PAPER, CAPPED = "adaserve", "adaserve-paper", "sarathi-capped"
RIVALS = tuple(name for name in SYSTEMS if name not in (OURS, PAPER))
FIXED = tuple(f"{PAPER}:budget={budget}" for budget in BUDGETS)
TUNED = tuple(f"{PAPER}:{settings}" for settings in SHALLOW)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a line for each trace and machine. Exit code 1 where we are more than a point behind any system."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="")
    parser.add_argument("--systems", nargs="+", default=[OURS, PAPER, *FIXED, *TUNED, *RIVALS])
    parser.add_argument("--draft-step-ms", type=float)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    traces = sorted(path for path in options.traces.glob("*.csv") if path.name.startswith(options.only))
    cases = [(str(trace), hardware, name) for trace in traces for hardware in PROFILES for name in options.systems]
    seeds = range(1, options.seeds + 1)
    rows: dict[tuple[str, str], dict[str, Report]] = {}
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("simulating", total=len(cases) * len(seeds))
        found = reports(cases, seeds, draft_step_ms=options.draft_step_ms, done=lambda: progress.advance(task))
        for (trace, hardware, name), (report, _) in zip(cases, found, strict=True):
            rows.setdefault((Path(trace).stem, hardware), {})[name] = report
            if len(rows[Path(trace).stem, hardware]) == len(options.systems):
                _print(Path(trace).stem, hardware, rows[Path(trace).stem, hardware], as_json=options.json)
    return int(any(_behind(systems) > 1.0 for systems in rows.values()))


def _mean(report: Report) -> float:
    return report.attainment.mean or 0.0


def _behind(systems: dict[str, Report]) -> float:
    """Points that we are behind the best; negative when we are ahead of all others."""
    others = [_mean(report) for name, report in systems.items() if name != OURS]
    return max(others, default=0.0) - _mean(systems[OURS])


def _ttft_p99_ms(report: Report) -> float | None:
    return percentiles(outcome.ttft_ms for outcome in report.outcomes)["p99"]


def _ttft_ratio(systems: dict[str, Report]) -> str:
    """To Sarathi under our cap of requests, the fair comparison."""
    ours, theirs = (_ttft_p99_ms(systems[name]) if name in systems else None for name in (OURS, CAPPED))
    return f", TTFT p99 {ours / theirs:.2f} times {CAPPED}'s" if ours and theirs else ""


def _print(trace: str, hardware: str, systems: dict[str, Report], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps([report.json() for report in systems.values()]), flush=True)
        return
    print(
        f"{trace} on {hardware}: {-_behind(systems):+.1f} points to the best other{_ttft_ratio(systems)}",
        flush=True,
    )
    for name, report in sorted(systems.items(), key=lambda item: -_mean(item[1])):
        spread = report.attainment.ci95
        ttft = _ttft_p99_ms(report)
        print(
            f"    {name:26} {_mean(report):6.2f}{'' if spread is None else f' ± {spread:4.2f}'} %"
            f"   goodput {report.goodput.mean or 0:6.0f} tokens/s   TTFT p99 {ttft or 0:7.0f} ms",
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(main())
