"""Results by tenant as tables for people."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from rich.table import Table

from bench.report import Estimate
from bench.simulator.economics import Statement
from cli.tenants import SystemResult, TenantResults

TOTAL = "all tenants"
SERVED = ("attainment %", "tok/s", "goodput tok/s", "cost per 1,000 goodput tokens")
MONEY = ("cost", "earned", "margin", "gain", "payback, days")


def tables(tenants: TenantResults) -> Iterator[Table]:
    """Attainment by tenant and class; with prices also what each tenant got, costs and earns."""
    results = list(tenants.results())
    yield _classes(results)
    if tenants.tenancy.prices is not None:
        currency = tenants.tenancy.prices.currency
        yield _by_tenant(f"cost in {currency}", results, SERVED, _served_cells)
        title = f"{currency} per hour; gain and payback against {tenants.baseline}"
        yield _by_tenant(title, results, MONEY, _money_cells)


def _classes(results: Sequence[SystemResult]) -> Table:
    table = Table("tenant", "class", "system", "requests", "attainment %", "objective %", "met")
    for standings in zip(*(result.standings for result in results), strict=True):
        for result, standing in zip(results, standings, strict=True):
            table.add_row(
                standing.tenant,
                standing.name,
                result.report.system,
                str(standing.requests),
                _spread(standing.attainment, ".1f"),
                "–" if standing.objective is None else f"{standing.objective:g}",
                {True: "yes", False: "no", None: "–"}[standing.is_met],
            )
    return table


def _by_tenant(
    title: str,
    results: Sequence[SystemResult],
    columns: Sequence[str],
    cells: Callable[[Statement], Iterator[str]],
) -> Table:
    table = Table("tenant", "system", *columns, title=title)
    for tenant in results[0].statements:
        for result in results:
            table.add_row(tenant or TOTAL, result.report.system, *cells(result.statements[tenant]))
    return table


def _served_cells(statement: Statement) -> Iterator[str]:
    yield _spread(statement.attainment, ".1f")
    yield f"{statement.mean('tokens_per_s'):.1f}"
    yield f"{statement.mean('goodput_tokens_per_s'):.1f}"
    cost = statement.cost_per_1000_goodput_tokens
    yield "–" if cost is None else f"{cost:.4g}"


def _money_cells(statement: Statement) -> Iterator[str]:
    for figure in ("cost_per_hour", "earned_per_hour", "margin_per_hour"):
        yield f"{statement.mean(figure):,.2f}"
    gain, payback = statement.gain_per_hour, statement.payback_days
    yield "–" if gain is None else _spread(gain, ",.2f")
    yield f"{payback:,.1f}" if isinstance(payback, float) else payback or "–"


def _spread(figure: Estimate, form: str) -> str:
    """Mean ± half the width of its 95 % interval."""
    if figure.mean is None:
        return "–"
    return f"{figure.mean:{form}}" + ("" if figure.ci95 is None else f" ± {figure.ci95:{form}}")
