"""Writes the table of metrics into docs/observability.md: `python -m deploy.metrics_table`."""

from __future__ import annotations

from pathlib import Path

from shared.signals import METRICS, SERVICES, Counter, Gauge, Metric, Named

PAGE = Path(__file__).resolve().parent.parent / "docs" / "observability.md"
BEGIN, END = "<!-- metrics: begin -->\n", "<!-- metrics: end -->\n"
FEW = 8  # values of a label that are listed


def table() -> str:
    """One row for each metric, by name."""
    head = "| metric | kind | of | labels | what |\n|---|---|---|---|---|\n"
    return head + "".join(_row(metric) for _, metric in sorted(METRICS.items()))


def _row(metric: Metric) -> str:
    kind = "counter" if isinstance(metric, Counter) else "gauge" if isinstance(metric, Gauge) else "histogram"
    services = "all" if len(metric.services) == len(SERVICES) else ", ".join(metric.services)
    labels = "; ".join(_label(name, metric) for name in metric.labels)
    return f"| `{metric.exposed}` | {kind} | {services} | {labels} | {_escaped(metric.description)} |\n"


def _label(name: str, metric: Metric) -> str:
    values = metric.labels[name]
    if isinstance(values, Named) or len(values) > FEW:
        return f"`{name}`"
    return f"`{name}`: {', '.join(values)}"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def written(page: str) -> str:
    """The page with the table of now between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + table() + END + after


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
