"""Machines by name or by the file of a profile."""

from __future__ import annotations

from pathlib import Path

from bench.simulator.hardware import PROFILES, Hardware
from bench.simulator.machine_file import read_machine
from shared.errors import ConfigurationError


def hardware_named(name: str) -> Hardware:
    """One of PROFILES, or the machine of a file `*.json`. Raises ConfigurationError for anything else."""
    if name in PROFILES:
        return PROFILES[name]
    if name.endswith(".json"):
        return read_machine(Path(name))
    raise ConfigurationError(
        f"hardware {name!r} is not known; there are {', '.join(PROFILES)}, and "
        "files of `adaserve profile --json` whose names end in .json"
    )
