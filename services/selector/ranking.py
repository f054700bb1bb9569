"""Candidate trees as flat columns, and their nodes in descending path probability. Pure numpy."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.calibration import Calibration
from shared.tree import Forest

COST_BITS = 31  # non-negative floats order like their bit patterns, and the sign bit is free
KEY_BITS = 63
INFINITE = 0x7F80_0000  # bits of +inf; NaN lies above

Integers = NDArray[np.integer[Any]]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidates:
    """The candidate trees of one batch, row after row.

    `offsets` int [rows + 1] cuts the node columns into rows; `parents` int [nodes] count within the row, −1 is
    the root and a parent precedes its children; `logprobs` float32 [nodes] are path log-probabilities (eq. 7).
    Any value of `logprobs` is allowed: NaN and −inf are never selected, and no child counts as likelier than its
    parent.
    """

    offsets: Integers
    parents: Integers
    logprobs: NDArray[np.float32]

    @property
    def num_rows(self) -> int:
        return len(self.offsets) - 1

    @property
    def num_nodes(self) -> int:
        return len(self.logprobs)

    @cached_property
    def forest(self) -> Forest:
        """Flat parents and depths, computed once for calibration, ranking and selection."""
        return Forest.of(self.offsets, self.parents)

    def judged_by(self, calibration: Calibration, buckets: Integers) -> Candidates:
        """The same trees with the path probabilities that the calibration makes of these."""
        logprobs = calibration.paths(self.forest, self.logprobs, buckets)
        judged = Candidates(offsets=self.offsets, parents=self.parents, logprobs=logprobs)
        judged.__dict__["forest"] = self.forest  # the cached property: the shape is the same
        return judged


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ranking:
    """Usable nodes, row after row, each row in descending probability; ties go to the earlier node.

    A parent is never behind its child. Comparing `keys` ranks the nodes of all rows against each other.
    """

    offsets: Int64  # [rows + 1]
    keys: Int64  # [usable] unique, smaller is better: bits of −log f above the flat index
    index_bits: int
    depth: Int64  # [rows] levels of usable nodes

    @property
    def sizes(self) -> Int64:
        """int64 [rows]: usable nodes of each row."""
        return self.offsets[1:] - self.offsets[:-1]

    def rows(self) -> Int64:
        """int64 [usable]: the row of each node."""
        return np.arange(len(self.offsets) - 1).repeat(self.sizes)

    def first(self, counts: Int64) -> Int64:
        """int64 [Σ counts]: the places of the first `counts` [rows] nodes of each row."""
        places: Int64 = (self.offsets[:-1] - counts.cumsum() + counts).repeat(counts)
        places += np.arange(len(places))
        return places

    def nodes(self, places: Int64) -> Int64:
        """Flat candidate indices of the nodes at `places`."""
        return self.keys[places] & ((1 << self.index_bits) - 1)

    def probabilities(self, places: Int64) -> Float64:
        """f(v) of the nodes at `places`, anything past the ends."""
        bits = (self.keys.take(places, mode="clip") >> self.index_bits).astype(np.int32)
        return np.exp(-bits.view(np.float32).astype(np.float64))


def rank(candidates: Candidates) -> Ranking:
    """Sort by (row, −log f, node). Raises ValueError where rows × nodes do not fit one 63-bit key."""
    num_rows, num_nodes, forest = candidates.num_rows, candidates.num_nodes, candidates.forest
    index_bits = num_nodes.bit_length()
    if num_rows.bit_length() + COST_BITS + index_bits > KEY_BITS:
        raise ValueError(f"{num_rows} rows of {num_nodes} nodes do not fit a {KEY_BITS}-bit sort key")
    costs, levels, offsets = _costs(candidates.logprobs, forest.up), forest.levels, candidates.offsets
    keys = costs[:-1].astype(np.int64)
    keys <<= index_bits
    keys |= np.arange(num_nodes)
    keys |= forest.each_node(np.arange(num_rows) << (COST_BITS + index_bits))
    if costs.max() >= INFINITE:
        usable = costs < INFINITE
        keys, levels = keys[usable[:-1]], levels * usable
        offsets = np.concatenate(([0], np.cumsum(usable)))[offsets]
    keys.sort()
    keys &= (1 << (COST_BITS + index_bits)) - 1
    return Ranking(
        offsets=offsets.astype(np.int64),
        keys=keys,
        index_bits=index_bits,
        depth=np.maximum.reduceat(levels, candidates.offsets[:-1]) * (forest.sizes > 0),
    )


def _costs(logprobs: NDArray[np.float32], up: Int64) -> Int32:
    """int32 [nodes + 1]: bits of −log f, at least the parent's; INFINITE and above for −inf and NaN."""
    losses = np.zeros(len(up), np.float32)  # the root's stays 0
    np.abs(np.minimum(logprobs, np.float32(0.0)), out=losses[:-1])
    costs = losses.view(np.int32)
    # rounding in the drafter's sums may put a child above its parent; doubling carries the maximum down the path
    while (costs < (above := costs.take(up))).any():
        costs = np.maximum(costs, above)
        up = up.take(up)
    return costs
