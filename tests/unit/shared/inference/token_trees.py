"""Random token trees for hypothesis."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from shared.inference.plan import Int32Array
from tests.unit.shared.inference.tiny_models import VOCAB

tokens = st.integers(0, VOCAB - 1)


@dataclass(frozen=True)
class Tree:
    tokens: Int32Array
    parents: Int32Array

    def path(self, node: int) -> list[int]:
        """Nodes from below the root to `node`."""
        path = []
        while node >= 0:
            path.append(node)
            node = int(self.parents[node])
        return path[::-1]

    def texts(self, context: list[int]) -> list[list[int]]:
        """Every node's whole token sequence."""
        return [context + [int(self.tokens[i]) for i in self.path(node)] for node in range(len(self.tokens))]


@st.composite
def trees(draw: st.DrawFn, max_nodes: int = 8) -> Tree:
    size = draw(st.integers(1, max_nodes))
    parents = [draw(st.integers(-1, node - 1)) for node in range(size)]
    values = draw(st.lists(tokens, min_size=size, max_size=size))
    return Tree(np.array(values, dtype=np.int32), np.array(parents, dtype=np.int32))
