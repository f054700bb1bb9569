"""Beam search over all rows at once equals beam search row by row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.drafter.expansion import Expansion, fit_width_depth
from shared.tree import ROOT
from tests.table_model import TableModel

MODEL = TableModel(vocab_size=7)


def top(context: list[int], width: int) -> tuple[list[int], list[float]]:
    logits = MODEL.logits(context)
    logprobs = (logits - np.log(np.exp(logits).sum())).astype(np.float32)
    ids = np.argsort(-logprobs, kind="stable")[:width]
    return ids.tolist(), logprobs[ids].tolist()


def beam_search(context: list[int], depth: int, width: int) -> list[tuple[int, int, float]]:
    """(token, parent, path log-probability) in level order, one node at a time."""
    nodes: list[tuple[int, int, float]] = []
    level: list[tuple[int, list[int], float]] = [(ROOT, context, 0.0)]
    for _ in range(depth):
        children = [
            (np.float32(np.float32(path) + np.float32(logprob)), node, [*tokens, token])
            for node, tokens, path in level
            for token, logprob in zip(*top(tokens, width), strict=True)
        ]
        children.sort(key=lambda child: -child[0])
        level = []
        for path, parent, tokens in children[:width]:
            level.append((len(nodes), tokens, path))
            nodes.append((tokens[-1], parent, float(path)))
    return nodes


@given(
    contexts=st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=4), max_size=4),
    depths=st.lists(st.integers(0, 4), min_size=4, max_size=4),
    width=st.integers(1, 9),
)
def test_all_rows_at_once_equal_row_by_row(contexts: list[list[int]], depths: list[int], width: int) -> None:
    expansion = Expansion(np.array(depths[: len(contexts)]), width)
    while len(expansion.frontier.row):
        trees = expansion.trees()
        feed = []
        for row, node in zip(expansion.frontier.row.tolist(), expansion.frontier.node.tolist(), strict=True):
            path = []
            while node != ROOT:
                path.append(int(trees[row].tokens[node]))
                node = int(trees[row].parents[node])
            feed.append(top([*contexts[row], *reversed(path)], width))
        expansion.grow(np.array([ids for ids, _ in feed]), np.array([p for _, p in feed], np.float32))
    for context, depth, tree in zip(contexts, depths, expansion.trees(), strict=False):
        expected = beam_search(context, depth, width)
        assert list(zip(tree.tokens.tolist(), tree.parents.tolist(), strict=True)) == [n[:2] for n in expected]
        assert tree.logprobs.tolist() == [n[2] for n in expected]


def test_impossible_children_are_not_candidates() -> None:
    expansion = Expansion(np.array([2]), 3)
    expansion.grow(np.array([[4, 5, 6]]), np.array([[-0.1, -np.inf, -np.inf]], np.float32))
    assert expansion.trees()[0].tokens.tolist() == [4]


def test_value_sums_each_rows_best_path() -> None:
    expansion = Expansion(np.array([2, 2, 1]), 2)
    expansion.grow(np.zeros((3, 2), int), np.log(np.array([[0.5, 0.25], [0.4, 0.2], [0.9, 0.1]], np.float32)))
    assert expansion.value(np.array([1.0, 2.0, 4.0], np.float32)) == pytest.approx(0.5 + 2 * 0.4)


def test_no_rows_have_no_value_and_no_trees() -> None:
    expansion = Expansion(np.array([], int), 3)
    assert expansion.value(np.array([], np.float32)) == 0.0
    assert expansion.trees() == []


@pytest.mark.parametrize(
    ("num_rows", "width", "depth", "limit", "expected"),
    [
        (4, 3, 5, 64, (3, 5)),
        (32, 3, 5, 64, (2, 5)),
        (64, 3, 5, 64, (1, 5)),
        (65, 3, 5, 64, (1, 1)),
        (0, 3, 5, 64, (3, 5)),
    ],
)
def test_width_gives_way_before_depth(
    num_rows: int, width: int, depth: int, limit: int, expected: tuple[int, int]
) -> None:
    assert fit_width_depth(num_rows, width, depth, limit) == expected
