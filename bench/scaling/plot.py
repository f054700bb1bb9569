"""For each load: attainment over GPU-hours, and how many verifiers there were when. Needs the extra `plots`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.plots import STYLE
from bench.scaling.runs import Drawn
from bench.scaling.table import Line
from bench.traces import Trace

COLOURS = ("tab:red", "tab:orange", "tab:brown", "tab:purple", "tab:green", "tab:pink", "tab:olive", "tab:gray")
MARKERS = "*sDv^<>p"


def plot(loads: Mapping[str, Drawn], fixed: str, path: Path) -> None:
    """``fixed`` is what the names of unscaled sizings begin with; they make a curve, the others points.

    Bars go from the least to the most of the seeds; the course is that of the first one.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(10.0, 3.0 * len(loads)), layout="constrained")
        rows = figure.subplots(len(loads), 2, squeeze=False)
        for (left, right), (name, drawn) in zip(rows, loads.items(), strict=True):
            _costs(left, name, drawn.lines, fixed)
            _course(right, drawn, [case for case in drawn.rows if not case.startswith(fixed)])
        rows[0][0].legend(frameon=False, fontsize="x-small", loc="lower right")
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)


def _costs(axes: Axes, name: str, rows: Mapping[str, Sequence[Line]], fixed: str) -> None:
    still = [lines for case, lines in rows.items() if case.startswith(fixed)]
    if still:
        _points(axes, still, marker="o", linestyle="-", color="tab:blue", label=fixed)
    for lines in still:
        axes.annotate(
            f"{lines[0].verifiers:.0f} + {lines[0].drafters:.0f}",
            (_mean(lines, "gpu_hours"), _mean(lines, "attained")),
            xytext=(3, -9),
            textcoords="offset points",
            fontsize="x-small",
        )
    moving = {case: lines for case, lines in rows.items() if not case.startswith(fixed)}
    for (case, lines), colour, marker in zip(moving.items(), COLOURS, MARKERS, strict=False):
        _points(axes, [lines], marker=marker, linestyle="", color=colour, label=case)
    axes.set(xlabel="GPU-hours", ylabel=f"{name}: attained, %")
    least = min(line.attained for lines in rows.values() for line in lines)
    axes.set_ylim(bottom=max(0.0, least - 5.0), top=101.0)


def _points(
    axes: Axes, groups: Sequence[Sequence[Line]], *, marker: str, linestyle: str, color: str, label: str
) -> None:
    """A point for each group of seeds, with its bars."""
    x, y = ([_mean(lines, figure) for lines in groups] for figure in ("gpu_hours", "attained"))
    bars = [np.array([_reach(lines, figure) for lines in groups]).T for figure in ("gpu_hours", "attained")]
    axes.errorbar(
        x, y, xerr=bars[0], yerr=bars[1], marker=marker, linestyle=linestyle, color=color, label=label,
        markersize=6, elinewidth=0.8,
    )  # fmt: skip


def _mean(lines: Sequence[Line], figure: str) -> float:
    return float(np.mean([getattr(line, figure) for line in lines]))


def _reach(lines: Sequence[Line], figure: str) -> tuple[float, float]:
    """From the mean down to the least and up to the most, both from 0 on."""
    values = [getattr(line, figure) for line in lines]
    mean = _mean(lines, figure)
    return max(0.0, mean - min(values)), max(0.0, max(values) - mean)


def _course(axes: Axes, drawn: Drawn, cases: Sequence[str]) -> None:
    minutes, counts = _load(drawn.trace)
    load = axes.twinx()
    load.fill_between(minutes, counts, step="post", color="0.85", zorder=0)
    load.set_ylabel("arriving, thousand tokens/s", color="0.5")
    axes.set_zorder(load.get_zorder() + 1)
    axes.patch.set_visible(False)
    for case, colour in zip(cases, COLOURS, strict=False):
        samples = drawn.rows[case][0].samples
        times = [sample.at_s / 60.0 for sample in samples]
        axes.step(times, [sample.verifiers for sample in samples], where="post", color=colour, linewidth=1.0)
    axes.set(xlabel="minutes", ylabel="verifiers")
    axes.set_ylim(bottom=0)


def _load(trace: Trace) -> tuple[np.ndarray, np.ndarray]:
    """Minutes, and thousands of tokens a second that come in each."""
    minutes = np.array([request.arrival_ms for request in trace.requests]) / 60e3
    tokens = np.array([request.prompt_tokens + request.output_tokens for request in trace.requests], np.float64)
    counts, edges = np.histogram(minutes, bins=np.arange(0.0, minutes.max() + 2.0), weights=tokens)
    return edges[:-1], counts / 60e3
