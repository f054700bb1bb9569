"""Times of repeated calls, and what is said of many of them."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

Call = Callable[[], object]


def median(values: Sequence[float]) -> float:
    """The middle one; NaN of nothing."""
    return statistics.median(values) if values else math.nan


def percentile(values: Sequence[float], percent: float) -> float:
    """The least value that at least ``percent`` % of all do not exceed; NaN of nothing."""
    if not values:
        return math.nan
    index = max(0, math.ceil(percent / 100 * len(values)) - 1)
    return sorted(values)[index]


def paired(above: Sequence[float], below: Sequence[float]) -> float:
    """Median of the ratios above / below of the same rounds: what disturbs a round disturbs both."""
    return median([one / other for one, other in zip(above, below, strict=True)])


def in_rounds(calls: Mapping[str, Call], rounds: int, *, warm: int = 3) -> dict[str, list[float]]:
    """Seconds of every call; each round calls every side once, in turn. ``warm`` rounds before do not count."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    with without_collection():
        for number in range(warm + rounds):
            for name, call in calls.items():
                start = time.perf_counter()
                call()
                spent = time.perf_counter() - start
                if number >= warm:
                    times[name].append(spent)
    return times


@contextmanager
def without_collection() -> Iterator[None]:
    """No garbage collection meanwhile, as in timeit."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def scaled(seconds: Sequence[float], factor: float) -> list[float]:
    """In another unit."""
    return [factor * value for value in seconds]
