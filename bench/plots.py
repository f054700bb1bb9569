"""Attainment and goodput of systems over a load or another axis. Needs the extra `plots`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.report import Estimate, Report

STYLE = {"svg.hashsalt": "adaserve", "svg.fonttype": "none", "axes.spines.top": False, "axes.spines.right": False}
MARKERS = "osD^vPX<>"
Point = tuple[float, Report]


def plot_curves(
    curves: Mapping[str, Sequence[Point]],
    *,
    label: str,
    title: str,
    path: Path,
    asked: Sequence[tuple[float, float]] = (),
) -> None:
    """Each system's (x, report) points with 95 % intervals, into `path` (.svg or .png).

    `label` names the x axis; `asked` are (x, tokens per second) that the load asks for, the ceiling of goodput.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(9.0, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        for marker, (name, points) in zip(MARKERS * len(curves), curves.items(), strict=False):
            _curve(left, name, marker, [(x, report.attainment) for x, report in points])
            _curve(right, name, marker, [(x, report.goodput) for x, report in points])
        for axes, text in ((left, "requests that attained their SLO, %"), (right, "goodput, tokens/s")):
            axes.set(xlabel=label, ylabel=text)
            axes.set_ylim(bottom=0)
        if asked:
            right.plot(*zip(*asked, strict=True), "k:", label="asked for")
        right.legend(frameon=False, fontsize="small")
        figure.suptitle(title)
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)


def _curve(axes: Axes, name: str, marker: str, points: Sequence[tuple[float, Estimate]]) -> None:
    axes.errorbar(
        [x for x, _ in points],
        [estimate.mean or 0.0 for _, estimate in points],
        yerr=[estimate.ci95 or 0.0 for _, estimate in points],
        marker=marker,
        capsize=3,
        label=name,
    )
