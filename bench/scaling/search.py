"""Which fixed sizes the rules are held against: each with as few drafters as keep what it attains. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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


def rival(lines: Sequence[Line], reference: Line) -> Line | None:
    """The cheapest of ``lines`` that attains what ``reference`` does; None where none does."""
    equal = [line for line in lines if line.attained >= reference.attained]
    return min(equal, key=lambda line: line.gpu_hours, default=None)
