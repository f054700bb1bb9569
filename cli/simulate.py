"""`adaserve simulate`: systems on a trace or a sweep of traces, simulated with the real selection code."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from bench.report import Report
from bench.simulator.hardware import hardware_named
from bench.simulator.simulate import reports
from bench.simulator.sweep import plot, sweep_named
from bench.simulator.systems import system_named
from bench.workloads import load_trace
from shared.errors import ConfigurationError

ONE = ("adaserve",)
COMPARED = ("adaserve", "adaserve-paper", "sarathi", "vllm", "vllm-spec-4", "vllm-spec-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """The options of `adaserve simulate`."""

    trace: str | None
    hardware: str
    systems: Sequence[str]
    seeds: int
    draft_step_ms: float | None
    sweep: str | None
    traces: Path | None
    plot: Path | None
    as_json: bool


def run(choices: Choices, console: Console) -> None:
    """Prints one object or table row for each trace and system. Raises an AdaServeError for an odd choice."""
    if (choices.trace is None) == (choices.sweep is None):
        raise ConfigurationError("give either --trace or --sweep")
    if choices.plot is not None and choices.sweep is None:
        raise ConfigurationError("--plot draws a --sweep")
    sweep = sweep_named(choices.sweep) if choices.sweep else None
    points = sweep.traces(choices.traces) if sweep else [(0.0, choices.trace or "")]
    systems = choices.systems or (COMPARED if sweep else ONE)
    _check(choices, systems, [trace for _, trace in points])
    curves: dict[str, list[tuple[float, Report]]] = {name: [] for name in systems}
    cases = [(x, trace, name) for x, trace in points for name in systems]
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("simulating", total=len(cases) * choices.seeds)
        found = reports(
            [(trace, choices.hardware, name) for _, trace, name in cases],
            range(1, choices.seeds + 1),
            draft_step_ms=choices.draft_step_ms,
            done=lambda: progress.advance(task),
        )
        for (x, _, name), (report, _) in zip(cases, found, strict=True):
            curves[name].append((x, report))
            if choices.as_json:
                print(json.dumps(report.json()), flush=True)  # noqa: T201 - the command's output
    if not choices.as_json:
        Console(highlight=False).print(_table(curves))
    if sweep is not None and choices.plot is not None:
        plot(sweep, curves, f"{choices.sweep} on {choices.hardware}", choices.plot)


def _check(choices: Choices, systems: Sequence[str], traces: Sequence[str]) -> None:
    """Everything that can be wrong, before minutes are spent."""
    hardware_named(choices.hardware)
    for name in systems:
        system_named(name)
    for trace in traces:
        load_trace(trace, 1)


def _table(curves: dict[str, list[tuple[float, Report]]]) -> Table:
    table = Table(
        "trace", "system", "attainment %", "by category", "goodput tok/s", "TTFT p99 ms", "tok/verification"
    )
    for points in zip(*curves.values(), strict=True):
        for _, report in points:
            told = report.json()
            by_category = ", ".join(f"{name} {value:.1f}" for name, value in report.by_category().items() if value)
            spread = "" if report.attainment.ci95 is None else f" ± {report.attainment.ci95:.1f}"
            table.add_row(
                Path(report.trace).stem if report.trace.endswith(".csv") else report.trace,
                report.system,
                f"{report.attainment.mean or 0.0:.1f}{spread}",
                by_category,
                f"{report.goodput.mean or 0.0:.0f}",
                str(told["ttft_ms"]["p99"]),
                str(told["tokens_per_verification"]),
            )
    return table
