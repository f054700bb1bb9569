"""Whether two sets of samples were drawn from one distribution. Pure; chance is injected.

A statistic's distribution is not looked up but made, by dealing the samples out to both sides anew: so a p-value
of p or less comes up in at most that share of tests of equal samplers, whatever the statistic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]
Statistic = Callable[[Int64], float]  # of the samples, by number, that the first side has


def of_tokens(pairs: Sequence[tuple[Int32, Int32]], chance: np.random.Generator, deals: int) -> float:
    """The p-value for sequences of tokens, one a row: pairs of [n, k] and [m, k], each of one prompt, say.

    Adds up chi-square terms of homogeneity: of every position's tokens, and of every prefix, which sees how tokens
    depend on each other. It sees any difference, if there are enough samples.
    """
    return _p_value([_homogeneity(one, other) for one, other in pairs], _sizes(pairs), chance, deals)


def of_means(pairs: Sequence[tuple[Float64, Float64]], chance: np.random.Generator, deals: int) -> float:
    """The p-value for numbers, pairs of [n] and [m], by how far apart their means are: it sees only that, soon."""
    statistics = []
    for one, other in pairs:
        values = np.concatenate([one, other])
        statistics.append(partial(_sum, values - values.mean()))
    return _p_value(statistics, _sizes(pairs), chance, deals)


def together(p_values: Sequence[float]) -> float:
    """The p-value of several tests in one (Bonferroni)."""
    return min(1.0, len(p_values) * min(p_values))


def _p_value(
    statistics: Sequence[Statistic], sizes: Sequence[tuple[int, int]], chance: np.random.Generator, deals: int
) -> float:
    """Of the sum of one statistic for each pair, either way; the smallest there can be is 1 / (deals + 1)."""

    def dealt() -> float:
        pairs = zip(statistics, sizes, strict=True)
        return abs(sum(statistic(chance.permutation(both)[:size]) for statistic, (size, both) in pairs))

    found = abs(sum(statistic(np.arange(size)) for statistic, (size, _) in zip(statistics, sizes, strict=True)))
    more = sum(dealt() >= found * (1 - 1e-12) for _ in range(deals))
    return (1 + more) / (1 + deals)


def _sizes(pairs: Sequence[tuple[npt.NDArray[Any], npt.NDArray[Any]]]) -> list[tuple[int, int]]:
    """Samples of the first side, and of both."""
    return [(len(one), len(one) + len(other)) for one, other in pairs]


def _sum(values: Float64, rows: Int64) -> float:
    return float(values[rows].sum())


def _homogeneity(one: Int32, other: Int32) -> Statistic:
    cells = _cells(np.concatenate([one, other]))
    totals = np.bincount(cells.ravel())
    expected = totals * (len(one) / len(cells))

    def chi_square(rows: Int64) -> float:
        counts = np.bincount(cells[rows].ravel(), minlength=len(totals))
        return float((np.square(counts - expected) / expected).sum())

    return chi_square


def _cells(sequences: Int32) -> Int64:
    """[n, 2k - 1]: each position's token and each prefix of two or more, as numbers of their own."""
    num_tokens = sequences.shape[1]
    columns = [sequences[:, index] for index in range(num_tokens)]
    prefixes = [sequences[:, : end + 1] for end in range(1, num_tokens)]
    cells: list[Int64] = []
    first = 0
    for column in (*columns, *prefixes):
        _, numbers = np.unique(column, axis=0, return_inverse=True)
        cells.append(first + numbers.reshape(-1).astype(np.int64))
        first = int(cells[-1].max()) + 1
    return np.stack(cells, axis=1)
