"""Token trees as parallel columns.

The root of a tree is the last token of a request's context and is never a node: a node whose parent is -1 is a
guess for the next token. Nodes are in an order in which parents come before their children.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Int32 = npt.NDArray[np.int32]
Int16 = npt.NDArray[np.int16]
Float32 = npt.NDArray[np.float32]

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

    def __len__(self) -> int:
        return len(self.tokens)

    def depths(self) -> Int32:
        """int32 [n]: 1 for a child of the root."""
        depths = np.zeros(len(self), np.int32)
        for node, parent in enumerate(self.parents.tolist()):
            depths[node] = 1 if parent == ROOT else depths[parent] + 1
        return depths

    def prefix(self, num_nodes: int) -> TokenTree:
        """The first ``num_nodes`` nodes; closed under ancestors by the order of nodes."""
        return TokenTree(self.tokens[:num_nodes], self.parents[:num_nodes], self.logprobs[:num_nodes])

    def children(self) -> dict[tuple[int, int], int]:
        """(parent, token) -> node, the first such node where a token stands twice under one parent."""
        edges: dict[tuple[int, int], int] = {}
        for node, edge in enumerate(zip(self.parents.tolist(), self.tokens.tolist(), strict=True)):
            edges.setdefault(edge, node)
        return edges


def parents_precede(parents: npt.NDArray[np.signedinteger]) -> bool:
    """Whether -1 <= parents[i] < i holds for every node."""
    return bool(np.all((parents >= ROOT) & (parents < np.arange(len(parents)))))


EMPTY = TokenTree(np.empty(0, np.int32), np.empty(0, np.int16), np.empty(0, np.float32))
