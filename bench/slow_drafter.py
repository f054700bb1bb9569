"""The drafter, with every forward pass made `BENCH_SLOWDOWN` times (100) as long: a fault for experiments."""

from __future__ import annotations

import time
from typing import Any

from bench.settings import SLOWDOWN, take_slowdown
from services.drafter.__main__ import main
from shared.inference.runner import ModelRunner


def slow_down(factor: float) -> None:
    """Let every forward pass of this process be followed by a sleep."""
    forward = ModelRunner.forward

    def slowed(runner: ModelRunner, plan: Any) -> Any:
        start = time.perf_counter()
        result = forward(runner, plan)
        time.sleep((time.perf_counter() - start) * (factor - 1))
        return result

    ModelRunner.forward = slowed  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    slow_down(take_slowdown(SLOWDOWN))
    main()
