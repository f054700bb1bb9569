"""The environment that benchmarks hand to the services they start."""

from __future__ import annotations

import os
from pathlib import Path


def inherited_environment() -> dict[str, str]:
    """This process's environment without AdaServe's own variables: an experiment sets all of them itself."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith("ADASERVE_") and name != "REDIS_URL"
    }
    return {**kept, "HF_HUB_OFFLINE": "1"}


SLOWDOWN = 100.0


def take_record_path() -> Path:
    """BENCH_RECORD, where a recorded verifier writes."""
    return Path(os.environ["BENCH_RECORD"])


def take_healed_path() -> Path:
    """BENCH_HEALED, the file with which a random drafter becomes a good one."""
    return Path(os.environ["BENCH_HEALED"])


def take_slowdown(default: float) -> float:
    """BENCH_SLOWDOWN, or the default."""
    return float(os.environ.get("BENCH_SLOWDOWN", default))
