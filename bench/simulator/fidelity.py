"""The simulator beside the paper: attainment of every trace and system the paper reports, and the errors.

    python -m bench.simulator.fidelity --traces FOLDER [--seeds 5] [--only vllm] [--json]

FOLDER holds the traces of the paper's evaluation, which are not part of this repository. The machines' constants
were fitted on the traces of 2.6 and 4.0 requests per second; all others are held out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from bench.report import tokens_per_verification
from bench.simulator.paper_figures import ATTAINMENT, FITTED_ON, TOKENS_PER_VERIFICATION
from bench.simulator.simulate import reports

GOALS = {"adaserve-paper": 4.0, "vllm": 4.0, "sarathi": 4.0, "vllm-spec": 12.0}  # points of attainment
TOKENS_GOAL = 0.15


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One cell: attainment in percent, tokens per verification."""

    trace: str
    hardware: str
    system: str
    simulated: float
    ci95: float | None
    paper: float
    tokens: float | None
    is_held_out: bool

    @property
    def error(self) -> float:
        """Points."""
        return self.simulated - self.paper

    @property
    def family(self) -> str:
        """The three depths of vLLM's speculation are judged together."""
        return "vllm-spec" if self.system.startswith("vllm-spec") else self.system

    @property
    def tokens_error(self) -> float | None:
        """Relative, where the paper has the figure."""
        known = TOKENS_PER_VERIFICATION[self.hardware].get(self.trace)
        if known is None or self.tokens is None or self.system != "adaserve-paper":
            return None
        return self.tokens / known - 1


def compare(folder: Path, seeds: Sequence[int], only: str, console: Console) -> Iterator[Comparison]:
    """Every cell of the paper. A missing or malformed file raises TraceError."""
    cells = [
        (trace, hardware, system, value)
        for trace, machines in ATTAINMENT.items()
        for hardware, systems in machines.items()
        for system, value in systems.items()
        if system.startswith(only)
    ]
    cases = [(str(folder / f"{trace}.csv"), hardware, system) for trace, hardware, system, _ in cells]
    with Progress(console=console) as progress:
        task = progress.add_task("simulating", total=len(cases) * len(seeds))
        results = reports(cases, seeds, done=lambda: progress.advance(task))
        for (trace, hardware, system, value), (report, _) in zip(cells, results, strict=True):
            assert report.attainment.mean is not None
            yield Comparison(
                trace=trace,
                hardware=hardware,
                system=system,
                simulated=report.attainment.mean,
                ci95=report.attainment.ci95,
                paper=value,
                tokens=tokens_per_verification(report.outcomes),
                is_held_out=trace not in FITTED_ON,
            )


def mean_errors(cells: Sequence[Comparison]) -> dict[str, dict[str, float]]:
    """Mean absolute error in points by system, over everything, fitted and held out."""
    found: dict[str, dict[str, float]] = {}
    for family in dict.fromkeys(cell.family for cell in cells):
        of_family = [cell for cell in cells if cell.family == family]
        parts = {
            "all": of_family,
            "fitted": [cell for cell in of_family if not cell.is_held_out],
            "held out": [cell for cell in of_family if cell.is_held_out],
        }
        found[family] = {
            name: statistics.fmean(abs(c.error) for c in part) for name, part in parts.items() if part
        }
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when every goal is reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", default="", help="systems whose names begin so")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    cells = list(compare(options.traces, range(1, options.seeds + 1), options.only, Console(stderr=True)))
    errors = mean_errors(cells)
    tokens = [(cell, cell.tokens_error) for cell in cells]
    if options.json:
        print(json.dumps({"cells": [asdict(cell) for cell in cells], "mean_absolute_error": errors}))
    else:
        _print(cells, errors)
    reached = all(errors[family]["all"] <= GOALS[family] for family in errors)
    close = all(abs(error) <= TOKENS_GOAL for _, error in tokens if error is not None)
    return 0 if reached and close else 1


def _print(cells: Sequence[Comparison], errors: dict[str, dict[str, float]]) -> None:
    print(
        f"{'trace':16} {'hardware':16} {'system':15} {'simulated':>14} {'paper':>6} {'error':>6}  tokens per pass"
    )
    for cell in cells:
        spread = f" ± {cell.ci95:3.1f}" if cell.ci95 is not None else ""
        tokens = (
            "" if cell.tokens_error is None else f"{cell.tokens:.2f} ({cell.tokens_error:+.0%} of the paper's)"
        )
        print(
            f"{cell.trace:16} {cell.hardware:16} {cell.system:15} {cell.simulated:6.1f}{spread:>8} "
            f"{cell.paper:6.1f} {cell.error:+6.1f}  {tokens}{'' if cell.is_held_out else '  (fitted)'}"
        )
    for family, parts in errors.items():
        text = ", ".join(f"{name} {value:.1f}" for name, value in parts.items())
        print(f"mean absolute error of {family}, points: {text}; goal {GOALS[family]:g}")


if __name__ == "__main__":
    sys.exit(main())
