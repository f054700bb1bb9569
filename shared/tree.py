"""Token trees as parallel columns.

The root of a tree is the last token of a request's context and is never a node: a node whose parent is -1 is a
guess for the next token. Nodes are in an order in which parents come before their children.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt

Int32 = npt.NDArray[np.int32]
Int16 = npt.NDArray[np.int16]
Int64 = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
Integers = npt.NDArray[np.integer[Any]]
Value = TypeVar("Value", bound=np.generic)

ROOT = -1


@dataclass(frozen=True, slots=True, eq=False)
class TokenTree:
    """``tokens`` int32 [n], ``parents`` int16 [n] with -1 <= parents[i] < i, ``logprobs`` float32 [n].

    ``logprobs`` are path log-probabilities under the draft model: log f(v) of eq. 7. Raises ValueError on
    columns of different length or a parent that does not come before its child.
    """

    tokens: Int32
    parents: Int16
    logprobs: Float32

    def __post_init__(self) -> None:
        if not len(self.tokens) == len(self.parents) == len(self.logprobs):
            raise ValueError("a tree's columns differ in length")
        if not parents_precede(self.parents):
            raise ValueError("a tree's parent does not come before its child")

    @classmethod
    def checked(cls, tokens: Int32, parents: Int16, logprobs: Float32) -> Self:
        """A tree of columns that somebody has checked as a whole: one after the other costs six times as much."""
        tree = object.__new__(cls)
        set_column = object.__setattr__
        set_column(tree, "tokens", tokens)
        set_column(tree, "parents", parents)
        set_column(tree, "logprobs", logprobs)
        return tree

    def __len__(self) -> int:
        return len(self.tokens)

    def depths(self) -> Int32:
        """int32 [n]: 1 for a child of the root."""
        depths = np.zeros(len(self), np.int32)
        for node, parent in enumerate(self.parents.tolist()):
            depths[node] = 1 if parent == ROOT else depths[parent] + 1
        return depths

    @property
    def expected_tokens(self) -> float:
        """Tokens that the draft promises, Σ f(v); nodes it calls impossible or NaN count nothing."""
        return expected_tokens([self])[0] if len(self) else 0.0

    def prefix(self, num_nodes: int) -> TokenTree:
        """The first ``num_nodes`` nodes; closed under ancestors by the order of nodes."""
        if num_nodes >= len(self):
            return self
        return self.checked(self.tokens[:num_nodes], self.parents[:num_nodes], self.logprobs[:num_nodes])

    def children(self) -> dict[tuple[int, int], int]:
        """(parent, token) -> node, the first such node where a token stands twice under one parent."""
        edges = zip(self.parents.tolist()[::-1], self.tokens.tolist()[::-1], strict=True)
        return dict(zip(edges, range(len(self) - 1, -1, -1), strict=True))  # of two the first stays: it comes last


def parents_precede(parents: npt.NDArray[np.signedinteger]) -> bool:
    """Whether -1 <= parents[i] < i holds for every node."""
    return bool(np.all((parents >= ROOT) & (parents < np.arange(len(parents)))))


def expected_tokens(trees: Sequence[TokenTree]) -> list[float]:
    """`TokenTree.expected_tokens` of trees that all have nodes."""
    if not trees:
        return []
    probs = np.exp(np.minimum(np.concatenate([tree.logprobs for tree in trees]), 0.0, dtype=np.float64))
    probs[probs != probs] = 0.0
    starts = np.array([0, *(len(tree) for tree in trees[:-1])]).cumsum()
    totals: list[float] = np.add.reduceat(probs, starts).tolist()
    return totals


EMPTY = TokenTree(np.empty(0, np.int32), np.empty(0, np.int16), np.empty(0, np.float32))


@dataclass(frozen=True, slots=True, eq=False)
class Forest:
    """The shape of many trees, as flat columns that end with the one root of all trees, index ``nodes``.

    ``up`` int64 [nodes + 1] is each node's parent, the root its own; ``levels`` int64 [nodes + 1] count from 0 for
    the root; ``sizes`` int [rows] are the trees' numbers of nodes.
    """

    up: Int64
    levels: Int64
    sizes: Integers
    _hops: list[Int64]  # the ancestors 1, 2, 4, ... levels up, int64 [nodes + 1], the root its own

    @classmethod
    def of(cls, offsets: Integers, parents: Integers) -> Self:
        """``offsets`` int [rows + 1] cuts the nodes into trees; ``parents`` int [nodes] count within the tree."""
        root, offsets = len(parents), offsets.astype(np.int64)
        sizes = offsets[1:] - offsets[:-1]  # np.diff costs 2 µs, this 0.5
        up = _with_root(parents + offsets[:-1].repeat(sizes), root)
        up[:-1][parents < 0] = root
        hops = _hops_up(up)
        return cls(up, _sum_paths(np.ones(root, np.int64), hops), sizes, hops)

    @property
    def parents(self) -> Int64:
        """int64 [nodes]: flat indices."""
        return self.up[:-1]

    @property
    def depths(self) -> Int64:
        """int64 [nodes]: 1 for a child of the root."""
        return self.levels[:-1]

    def each_node(self, rows: npt.NDArray[Value]) -> npt.NDArray[Value]:
        """[nodes]: the value of each node's tree, of ``rows`` [rows]."""
        return rows.repeat(self.sizes)

    def sum_paths(self, values: npt.NDArray[Value]) -> npt.NDArray[Value]:
        """[nodes]: each node's value plus those of its ancestors; undoes `edges`."""
        return _sum_paths(values, self._hops)[:-1]

    def edges(self, values: Float32) -> Float32:
        """float32 [nodes]: what each node's value adds to its parent's; a root's is 0."""
        with np.errstate(invalid="ignore", over="ignore"):  # odd hints: −∞ below −∞, more than float32 holds
            added: Float32 = values - _with_root(values, 0).take(self.parents)
        return added


def _with_root(values: npt.NDArray[Value], root: int) -> npt.NDArray[Value]:
    """[nodes + 1]: the nodes' values and the root's. A third of what np.append costs."""
    extended = np.empty(len(values) + 1, values.dtype)
    extended[:-1], extended[-1] = values, root
    return extended


def _hops_up(up: Int64) -> list[Int64]:
    """Pointer doubling: log₂(depth) passes."""
    hops, root = [], len(up) - 1
    while np.minimum.reduce(up) < root:
        hops.append(up)
        up = up.take(up)
    return hops


def _sum_paths(values: npt.NDArray[Value], hops: Sequence[Int64]) -> npt.NDArray[Value]:
    """[nodes + 1]: of ``values`` [nodes]; the root's is 0."""
    sums = _with_root(values, 0)
    for hop in hops:
        np.add(sums, sums.take(hop), out=sums)
    return sums
