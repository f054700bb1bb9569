"""For each load: attainment over GPU-hours, and how many verifiers there were when. Needs the extra `plots`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.plots import STYLE
from bench.scaling.result import Result
from bench.scaling.table import Line
from bench.traces import Trace

COLOURS = ("tab:red", "tab:purple", "tab:green", "tab:brown")
MARKERS = "*^vD"


def plot(loads: Mapping[str, tuple[Trace, Sequence[Line], Sequence[Result]]], fixed: str, path: Path) -> None:
    """``fixed`` is what the names of unscaled sizings begin with; they make a curve, the others points."""
    with rc_context(STYLE):
        figure = Figure(figsize=(10.0, 3.0 * len(loads)), layout="constrained")
        rows = figure.subplots(len(loads), 2, squeeze=False)
        for (left, right), (name, (trace, lines, results)) in zip(rows, loads.items(), strict=True):
            _costs(left, name, lines, fixed)
            _course(right, trace, [result for result in results if not result.name.startswith(fixed)])
        rows[0][0].legend(frameon=False, fontsize="small", loc="lower right")
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)


def _costs(axes: Axes, name: str, lines: Sequence[Line], fixed: str) -> None:
    still = [line for line in lines if line.sizing.startswith(fixed)]
    points = [line.gpu_hours for line in still], [line.attained for line in still]
    axes.plot(*points, "o-", color="tab:blue", label=fixed)
    for line in still:
        axes.annotate(f"{line.verifiers:.0f}", (line.gpu_hours, line.attained), xytext=(3, -9),
                      textcoords="offset points", fontsize="x-small")  # fmt: skip
    moving = [line for line in lines if not line.sizing.startswith(fixed)]
    for line, colour, marker in zip(moving, COLOURS, MARKERS, strict=False):
        axes.plot([line.gpu_hours], [line.attained], marker, color=colour, markersize=9, label=line.sizing)
    axes.set(xlabel="GPU-hours", ylabel=f"{name}: attained, %")
    axes.set_ylim(bottom=max(0.0, min(line.attained for line in lines) - 5.0), top=101.0)


def _course(axes: Axes, trace: Trace, results: Sequence[Result]) -> None:
    minutes = np.array([request.arrival_ms for request in trace.requests]) / 60e3
    tokens = np.array([request.prompt_tokens + request.output_tokens for request in trace.requests], np.float64)
    counts, edges = np.histogram(minutes, bins=np.arange(0.0, minutes.max() + 2.0), weights=tokens)
    load = axes.twinx()
    load.fill_between(edges[:-1], counts / 60e3, step="post", color="0.85", zorder=0)
    load.set_ylabel("arriving, thousand tokens/s", color="0.5")
    axes.set_zorder(load.get_zorder() + 1)
    axes.patch.set_visible(False)
    for result, colour in zip(results, COLOURS, strict=False):
        times = [sample.at_s / 60.0 for sample in result.samples]
        axes.step(times, [sample.verifiers for sample in result.samples], where="post", color=colour)
    axes.set(xlabel="minutes", ylabel="verifiers")
    axes.set_ylim(bottom=0)
