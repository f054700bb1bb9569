"""`adaserve simulate`: systems on a trace or a sweep of traces, simulated with the real selection code."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from bench.report import Report
from bench.simulator.machines import hardware_named
from bench.simulator.simulate import reports
from bench.simulator.sweep import check_plot, plot, sweep_named
from bench.simulator.systems import system_named
from bench.workloads import load_trace
from cli.consoles import for_tables
from cli.tenant_tables import tables
from cli.tenants import Tenancy, TenantResults
from shared.errors import ConfigurationError

ONE = ("adaserve",)
NONE = "–"  # there is no such figure
BASELINE = "sarathi"  # what tenants have today, where no second system is named
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
    policy: Path | None = None
    prices: Path | None = None


def run(choices: Choices, console: Console) -> None:
    """Prints one object or table row for each trace and system. Raises an AdaServeError for an odd choice."""
    _refuse_what_does_not_combine(choices)
    sweep = sweep_named(choices.sweep) if choices.sweep else None
    points = sweep.traces(choices.traces) if sweep else [(0.0, choices.trace or "")]
    systems = _systems(choices)
    seeds = range(1, choices.seeds + 1)
    _check(choices, systems, [trace for _, trace in points])
    tenancy = Tenancy.read(choices.policy, choices.prices) if choices.policy else None
    if tenancy is not None and tenancy.not_simulated:
        console.print(f"not simulated: {', '.join(tenancy.not_simulated)} of {choices.policy}")
    tenants = TenantResults.of(tenancy, choices.trace, seeds) if tenancy and choices.trace else None
    curves: dict[str, list[tuple[float, Report]]] = {name: [] for name in systems}
    cases = [(x, trace, name) for x, trace in points for name in systems]
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("simulating", total=len(cases) * choices.seeds)
        found = reports(
            [(trace, choices.hardware, name) for _, trace, name in cases],
            seeds,
            draft_step_ms=choices.draft_step_ms,
            load=tenancy.load if tenancy else load_trace,
            done=lambda: progress.advance(task),
        )
        for (x, _, name), (report, runs) in zip(cases, found, strict=True):
            curves[name].append((x, report))
            if tenants is not None:
                tenants.add(report, runs)
            elif choices.as_json:
                _print_json(report.json())
    _tell(choices, curves, tenants)
    if sweep is not None and choices.plot is not None:
        plot(sweep, curves, f"{choices.sweep} on {choices.hardware}", choices.plot)


def _refuse_what_does_not_combine(choices: Choices) -> None:
    if (choices.trace is None) == (choices.sweep is None):
        raise ConfigurationError("give either --trace or --sweep")
    if choices.plot is not None and choices.sweep is None:
        raise ConfigurationError("--plot draws a --sweep")
    if choices.traces is not None and choices.sweep is None:
        raise ConfigurationError("--traces goes with a --sweep, not with a --trace")
    if choices.policy is not None and choices.sweep is not None:
        raise ConfigurationError("--policy goes with a --trace, not with a --sweep")
    if choices.prices is not None and choices.policy is None:
        raise ConfigurationError("--prices needs the tenants of a --policy")


def _systems(choices: Choices) -> Sequence[str]:
    """With tenants, the last one is the baseline that the others are compared with."""
    systems = tuple(choices.systems) or (COMPARED if choices.sweep else ONE)
    if choices.policy is None:
        return systems
    if len(set(systems)) < len(systems):
        raise ConfigurationError(f"with --policy each --system is named once, not {', '.join(systems)}")
    return (*systems, BASELINE) if len(systems) == 1 and systems != (BASELINE,) else systems


def _check(choices: Choices, systems: Sequence[str], traces: Sequence[str]) -> None:
    """Everything that can be wrong, before minutes are spent."""
    hardware_named(choices.hardware)
    for name in systems:
        system_named(name)
    if choices.traces is not None and not choices.traces.is_dir():
        raise ConfigurationError(f"--traces {str(choices.traces)!r}: no such folder")
    for trace in traces:
        load_trace(trace, 1)
    if choices.plot is not None:
        check_plot(choices.plot)


def _print_json(told: dict[str, Any]) -> None:
    print(json.dumps(told, allow_nan=False), flush=True)  # noqa: T201 - the command's output


def _tell(choices: Choices, curves: dict[str, list[tuple[float, Report]]], tenants: TenantResults | None) -> None:
    """What is told when all is known."""
    if choices.as_json:
        for told in tenants.json() if tenants else ():
            _print_json(told)
        return
    for table in (_table(curves), *(tables(tenants) if tenants else ())):
        for_tables().print(table)


def _table(curves: dict[str, list[tuple[float, Report]]]) -> Table:
    table = Table()
    for name in (
        "trace",
        "system",
        "attainment %",
        "by category",
        "goodput tok/s",
        "TTFT p99 ms",
        "tok/verification",
    ):
        table.add_column(name, overflow="fold")  # cut short, systems would look alike
    for points in zip(*curves.values(), strict=True):
        for _, report in points:
            told = report.json()
            known = {name: value for name, value in report.by_category().items() if value is not None}
            by_category = ", ".join(f"{name} {value:.1f}" for name, value in known.items())
            spread = "" if report.attainment.ci95 is None else f" ± {report.attainment.ci95:.1f}"
            table.add_row(
                Path(report.trace).stem if report.trace.endswith(".csv") else report.trace,
                report.system,
                NONE if report.attainment.mean is None else f"{report.attainment.mean:.1f}{spread}",
                by_category or NONE,
                NONE if report.attainment.mean is None else f"{report.goodput.mean or 0.0:.0f}",
                str(told["ttft_ms"]["p99"] or NONE),
                str(told["tokens_per_verification"] or NONE),
            )
    return table
