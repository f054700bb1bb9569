"""Which fixed sizes the rules are held against: each with as few drafters as keep what it attains. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from bench.scaling.sizing import Fixed
from bench.scaling.table import Line

GIVEN_UP = 0.5  # points of attainment, at most, for fewer drafters


def thriftiest(verifiers: int, attained: Callable[[Fixed], float]) -> Fixed:
    """So many verifiers with the fewest drafters that attain at most GIVEN_UP less than one each does.

    By halving: more drafters are taken never to attain less. ``attained`` is in percent.
    """
    goal = attained(Fixed(verifiers, verifiers)) - GIVEN_UP
    low, high = 1, verifiers
    while low < high:
        middle = (low + high) // 2
        if attained(Fixed(verifiers, middle)) >= goal:
            high = middle
        else:
            low = middle + 1
    return Fixed(verifiers, high)


def rival(rows: Mapping[str, Sequence[Line]], fixed: str, reference: str) -> str | None:
    """The cheapest of those named ``fixed`` that attains what ``reference`` does, by the means over the seeds."""
    goal = _mean(rows[reference], "attained")
    equal = [name for name in rows if name.startswith(fixed) and _mean(rows[name], "attained") >= goal]
    return min(equal, key=lambda name: _mean(rows[name], "gpu_hours"), default=None)


def _mean(lines: Sequence[Line], figure: str) -> float:
    return float(np.mean([getattr(line, figure) for line in lines]))
