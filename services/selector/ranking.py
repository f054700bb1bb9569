"""Candidate trees as flat columns, and their nodes in descending path probability. Pure numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.tree import flat_parents, node_depths

COST_BITS = 31  # non-negative floats order like their bit patterns, and the sign bit is free
KEY_BITS = 63
INFINITE = 0x7F80_0000  # bits of +inf; NaN lies above

Integers = NDArray[np.integer[Any]]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
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

    @property
    def sizes(self) -> Integers:
        """int [rows]: nodes of each row."""
        return self.offsets[1:] - self.offsets[:-1]  # np.diff costs 2 µs, this 0.5

    def flat_parents(self) -> Int64:
        """int64 [nodes]: parents as flat indices; the root of any row is `num_nodes`."""
        return flat_parents(self.offsets, self.parents)


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
        return np.repeat(np.arange(len(self.offsets) - 1), self.sizes)

    def nodes(self, places: Int64) -> Int64:
        """Flat candidate indices of the nodes at `places`."""
        return self.keys[places] & ((1 << self.index_bits) - 1)

    def probabilities(self, places: Int64) -> Float64:
        """f(v) of the nodes at `places`."""
        bits = (self.keys[places] >> self.index_bits).astype(np.int32)
        return np.exp(-bits.view(np.float32).astype(np.float64))


def rank(candidates: Candidates, flat_parents: Int64) -> Ranking:
    """Sort by (row, −log f, node). Raises ValueError where rows × nodes do not fit one 63-bit key."""
    num_rows, num_nodes = candidates.num_rows, candidates.num_nodes
    index_bits = num_nodes.bit_length()
    if num_rows.bit_length() + COST_BITS + index_bits > KEY_BITS:
        raise ValueError(f"{num_rows} rows of {num_nodes} nodes do not fit a {KEY_BITS}-bit sort key")
    costs, depths = _costs(candidates.logprobs, flat_parents), node_depths(flat_parents)
    keys = costs.astype(np.int64)
    keys <<= index_bits
    keys |= np.arange(num_nodes)
    keys |= np.repeat(np.arange(num_rows) << (COST_BITS + index_bits), candidates.sizes)
    offsets = candidates.offsets.astype(np.int64)
    usable = costs < INFINITE
    if not usable.all():
        keys, depths = keys[usable], depths * usable
        offsets = np.concatenate(([0], np.cumsum(usable)))[offsets]
    keys.sort()
    keys &= (1 << (COST_BITS + index_bits)) - 1
    return Ranking(offsets=offsets, keys=keys, index_bits=index_bits, depth=_row_depths(depths, candidates))


def _with_root(flat_parents: Int64, num_nodes: int) -> Int64:
    """int64 [nodes + 1]: the parents, and the root as its own parent."""
    hop = np.empty(num_nodes + 1, dtype=np.int64)
    hop[:-1], hop[-1] = flat_parents, num_nodes
    return hop


def _costs(logprobs: NDArray[np.float32], flat_parents: Int64) -> Int32:
    """int32 [nodes]: bits of −log f, at least the parent's; INFINITE and above for −inf and NaN."""
    losses = np.zeros(len(flat_parents) + 1, dtype=np.float32)  # the root's stays 0
    np.abs(np.minimum(logprobs, np.float32(0.0)), out=losses[:-1])
    costs = losses.view(np.int32)
    hop = _with_root(flat_parents, len(flat_parents))
    # rounding in the drafter's sums may put a child above its parent; doubling carries the maximum down the path
    while (costs < (above := costs.take(hop))).any():
        costs = np.maximum(costs, above)
        hop = hop.take(hop)
    return costs[:-1]


def _row_depths(depths: Int64, candidates: Candidates) -> Int64:
    filled = np.flatnonzero(candidates.sizes)
    deepest = np.zeros(candidates.num_rows, dtype=np.int64)
    if filled.size:
        deepest[filled] = np.maximum.reduceat(depths, candidates.offsets[filled])
    return deepest
