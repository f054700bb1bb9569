"""Theorem 4.1: beam search as wide as the budget finds candidate trees that hold the optimal trees.

Conditional probabilities are powers of two and the beam search adds their logarithms in base 2, which float32
holds exactly; no decision depends on the base.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.listings import Request, algorithm_1
from services.drafter.expansion import Expansion
from shared.tree import TokenTree
from tests.effort import examples
from tests.unit.services.selector.oracle import value

Losses = dict[tuple[int, ...], int]  # path of tokens -> −log₂ f


@st.composite
def token_trees(draw: st.DrawFn, vocab: int = 4, max_nodes: int = 12) -> Losses:
    """A finite token tree; with small steps most probabilities tie, with large ones hardly any."""
    step = st.integers(0, draw(st.sampled_from([2, 500])))
    tree: Losses = {(): 0}
    for _ in range(draw(st.integers(0, max_nodes))):
        parent = draw(st.sampled_from(list(tree)))
        path = (*parent, draw(st.integers(0, vocab - 1)))
        tree.setdefault(path, tree[parent] + draw(step))
    del tree[()]
    return tree


def as_request(tree: Losses, needed: Fraction) -> Request:
    place = {path: index for index, path in enumerate(tree)} | {(): -1}
    return Request(
        parents=[place[path[:-1]] for path in tree],
        f=[Fraction(1, 2**loss) for loss in tree.values()],
        needed=needed,
    )


def beam_search(trees: Sequence[Losses], depth: int, width: int, vocab: int = 4) -> list[Losses]:
    """The drafter's expansion over finite token trees: tokens that a tree lacks are impossible."""
    expansion = Expansion(np.full(len(trees), depth), width)
    paths: list[list[tuple[int, ...]]] = [[] for _ in trees]
    while expansion.depth < depth and len(expansion.frontier.row):
        frontier = expansion.frontier
        logprobs = [
            [_conditional(trees[row], (*_path(paths[row], node), token)) for token in range(vocab)]
            for row, node in zip(frontier.row.tolist(), frontier.node.tolist(), strict=True)
        ]
        expansion.grow(np.tile(np.arange(vocab), (len(logprobs), 1)), np.array(logprobs, np.float32))
        paths = [_paths(tree) for tree in expansion.trees()]
    return [
        dict(zip(_paths(tree), (-tree.logprobs).astype(int).tolist(), strict=True)) for tree in expansion.trees()
    ]


def _conditional(tree: Losses, path: tuple[int, ...]) -> float:
    return tree.get(path[:-1], 0) - tree[path] if path in tree else -math.inf


def _path(paths: Sequence[tuple[int, ...]], node: int) -> tuple[int, ...]:
    return () if node < 0 else paths[node]


def _paths(tree: TokenTree) -> list[tuple[int, ...]]:
    paths: list[tuple[int, ...]] = []
    for token, parent in zip(tree.tokens.tolist(), tree.parents.tolist(), strict=True):
        paths.append((*_path(paths, parent), token))
    return paths


@settings(max_examples=examples(2000), derandomize=True, database=None)
@given(
    st.lists(st.tuples(token_trees(), st.sampled_from([Fraction(n, 8) for n in (0, 0, 10, 13, 16)])), max_size=3),
    st.integers(0, 10),
)
def test_candidate_trees_hold_the_optimal_trees(rows: list[tuple[Losses, Fraction]], budget: int) -> None:
    """D_opt is the depth of the optimal trees. Where probabilities tie, an equally good choice."""
    trees = [tree for tree, _ in rows]
    requests = [as_request(tree, needed) for tree, needed in rows]
    optimal = algorithm_1(requests, budget)
    if optimal is None:
        return
    chosen = [[list(tree)[node] for node in nodes] for tree, nodes in zip(trees, optimal, strict=True)]
    depth = max((len(path) for paths in chosen for path in paths), default=0)
    drafted = beam_search(trees, depth, width=max(budget, 1))
    found = [as_request(tree, needed) for tree, (_, needed) in zip(drafted, rows, strict=True)]
    assert value(found, algorithm_1(found, budget)) == value(requests, optimal)
    for tree, paths, candidate in zip(trees, chosen, drafted, strict=True):
        if len(set(tree.values())) == len(tree):
            assert set(paths) <= set(candidate)
