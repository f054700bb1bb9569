"""Named sets of workloads, as the paper's figures vary them, and the curves of systems over them."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.report import Report
from shared.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """Points (x, trace); ``files`` names the paper's trace of a point, used when their folder is given."""

    label: str
    points: tuple[tuple[float, str], ...]
    files: Mapping[float, str]

    def traces(self, folder: Path | None) -> list[tuple[float, str]]:
        """(x, file or preset)."""
        if folder is None:
            return list(self.points)
        return [
            (x, str(folder / f"{self.files[x]}.csv") if x in self.files else trace) for x, trace in self.points
        ]


def _points(template: str, values: Sequence[float]) -> tuple[tuple[float, str], ...]:
    return tuple((value, template.format(value)) for value in values)


RATES = (2.6, 3.4, 4.0, 4.8)
SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
SCALES = (0.6, 0.8, 1.0, 1.2, 1.4, 1.6)
SWEEPS: Mapping[str, Sweep] = {
    "fig8": Sweep(
        label="requests per second",
        points=_points("paper:rps={}", RATES),
        files={rate: f"fig8_rps{rate}" for rate in RATES},
    ),
    "urgent": Sweep(
        label="share of urgent requests",
        points=_points("urgent:share={}", SHARES),
        files={share: f"fig10_urgent{share}" for share in (0.3, 0.9)},
    ),
    "scale": Sweep(
        label="SLO scale of urgent requests",
        points=_points("scale:scale={}", SCALES),
        files={scale: f"fig11_scale{scale}" for scale in (0.6, 1.0)},
    ),
    "overload": Sweep(label="requests per second", points=_points("paper:rps={}", (4.0, 5.0, 6.0, 8.0)), files={}),
    "fluctuating": Sweep(label="fluctuating load", points=((1.0, "fluctuating"),), files={}),
}


def sweep_named(name: str) -> Sweep:
    """Raises ConfigurationError for a name that is not in SWEEPS."""
    if name not in SWEEPS:
        raise ConfigurationError(f"sweep {name!r} is not known; there are {', '.join(SWEEPS)}")
    return SWEEPS[name]


def plot(sweep: Sweep, curves: Mapping[str, Sequence[tuple[float, Report]]], title: str, path: Path) -> None:
    """Attainment and goodput of each system over the sweep, with confidence intervals, as PNG or SVG.

    Raises ConfigurationError where the file cannot be written.
    """
    from bench.plots import plot_curves

    try:
        plot_curves(curves, label=sweep.label, title=title, path=path)
    except OSError as error:
        raise ConfigurationError(f"plot {str(path)!r}: cannot be written ({error.strerror or error})") from None


def check_plot(path: Path) -> None:
    """Raises ConfigurationError without matplotlib (extra `plots`), a folder, or one of the two endings."""
    if path.suffix not in (".png", ".svg"):
        raise ConfigurationError(f"plot {str(path)!r}: must end in .png or .svg")
    if not path.parent.is_dir() or path.is_dir():
        raise ConfigurationError(f"plot {str(path)!r}: must be a file in a folder that exists")
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigurationError("plots need matplotlib: install adaserve[plots]")
