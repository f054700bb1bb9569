"""All sections of a run, as JSON-ready values, and the stored baseline."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.limits import placement

BASELINE = Path(__file__).with_name("baseline.json")
FORMAT = 1


def report(sections: Mapping[str, Any], *, load_before: float, quick: bool) -> dict[str, Any]:
    """What a run has found, and on what machine."""
    return {
        "format": FORMAT,
        "machine": placement.machine(),
        "load_per_core_before": round(load_before, 2),
        "quick": quick,
        "sections": dict(sections),
    }


def read_report(path: Path) -> dict[str, Any]:
    """A stored report. Raises ValueError, naming the file, for anything else."""
    try:
        stored = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as a report ({error})") from None
    if not isinstance(stored, dict) or stored.get("format") != FORMAT:
        raise ValueError(f"{path}: is no report of format {FORMAT}; write one with --out")
    return stored


def unmet(sections: Mapping[str, Any]) -> list[str]:
    """Figures whose targets are not met."""
    return [
        f"{name}: {figure['name']}"
        for name, section in sections.items()
        for figure in section["figures"]
        if figure.get("met") is False
    ]


def chosen(only: Sequence[str] | None, known: Mapping[str, Callable[..., Any]]) -> list[str]:
    """Names of the sections to run, in the order of the benchmark. Raises ValueError for one that is unknown."""
    odd = sorted(set(only or ()) - known.keys())
    if odd:
        raise ValueError(f"--only {odd[0]}: no such section; there are {', '.join(known)}")
    return [name for name in known if not only or name in only]
