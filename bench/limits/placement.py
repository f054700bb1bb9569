"""Where processes run: cores, threads, and what machine this is."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch


def cores_of(pid: int = 0) -> list[int]:
    """Cores that a process may run on; 0: this one."""
    return sorted(os.sched_getaffinity(pid))


def described(processes: Mapping[str, int | None] | None = None) -> str:
    """This process' threads and cores, and the cores of others by name; None for one that is gone."""
    parts = [f"this process: {torch.get_num_threads()} thread(s) on cores {_listed(cores_of())}"]
    for name, pid in (processes or {}).items():
        if pid is not None:
            parts.append(f"{name}: cores {_listed(cores_of(pid))}")
    return "; ".join(parts)


def _listed(cores: list[int]) -> str:
    if len(cores) > 2 and cores == list(range(cores[0], cores[-1] + 1)):
        return f"{cores[0]}-{cores[-1]}"
    return ",".join(map(str, cores))


def machine() -> dict[str, Any]:
    """What figures depend on. Two runs whose descriptions are equal may be compared in time."""
    return {
        "processor": _processor(),
        "cores": len(cores_of()),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "numpy": version("numpy"),
    }


def _processor() -> str:
    """Name and family, for one name covers several generations."""
    wanted: dict[str, str] = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "cpu family", "model"):
            wanted.setdefault(key.strip(), value.strip())
    name = wanted.pop("model name", platform.machine())
    return " ".join([name, *(f"{key} {value}" for key, value in sorted(wanted.items()))])


def load_per_core() -> float:
    """Runnable processes of the last minute by core; above a half or so this machine is not quiet."""
    return os.getloadavg()[0] / len(cores_of())
