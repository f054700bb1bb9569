"""Curves of a comparison over the load, as SVG and PNG. Needs the extra `plots`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.report import Report
from bench.rival_rounds import Load

STYLE = {"svg.hashsalt": "adaserve", "svg.fonttype": "none", "axes.spines.top": False, "axes.spines.right": False}
MARKERS = "osD^vPX"


def plot_loads(loads: Sequence[Load], title: str, path: Path) -> list[Path]:
    """Attainment and goodput over requests per second, bars for 95 % intervals; `path` gets both endings."""
    with rc_context(STYLE):
        figure = Figure(figsize=(9.0, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        _curves(left, loads, "attainment")
        _curves(right, loads, "goodput")
        left.set_ylabel("requests that attained their SLO, %")
        left.set_ylim(0, 105)
        right.set_ylabel("goodput, tokens/s")
        right.plot([load.rps for load in loads], [load.offered for load in loads], "k:", label="asked for")
        right.set_ylim(bottom=0)
        right.legend(frameon=False)
        figure.suptitle(title)
        paths = [path.with_suffix(ending) for ending in (".svg", ".png")]
        for each in paths:
            figure.savefig(each, dpi=150, metadata={"Date": None} if each.suffix == ".svg" else None)
    return paths


def _curves(axes: Axes, loads: Sequence[Load], figure: str) -> None:
    axes.set_xlabel("load, requests/s")
    for index, first in enumerate(loads[0].reports):
        of_system = [load.reports[index] for load in loads]
        means, intervals = zip(*(_point(report, figure) for report in of_system), strict=True)
        axes.errorbar(
            [load.rps for load in loads],
            means,
            yerr=intervals,
            marker=MARKERS[index % len(MARKERS)],
            capsize=3,
            label=first.system,
        )


def _point(report: Report, figure: str) -> tuple[float, float]:
    estimate = report.attainment if figure == "attainment" else report.goodput
    return estimate.mean or 0.0, estimate.ci95 or 0.0
