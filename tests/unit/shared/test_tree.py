"""Token trees and the digest chain."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import digest
from shared.tree import EMPTY, ROOT, Forest, TokenTree
from tests.strategies import trees


@given(trees())
def test_depth_is_one_more_than_the_parents(tree: TokenTree) -> None:
    depths = tree.depths()
    for node, parent in enumerate(tree.parents):
        assert depths[node] == (1 if parent == ROOT else depths[parent] + 1)


@given(st.lists(trees(max_nodes=20), max_size=4))
def test_a_forest_sums_along_paths_and_takes_apart_again(several: list[TokenTree]) -> None:
    offsets = np.cumsum([0, *map(len, several)])
    forest = Forest.of(offsets, np.concatenate([EMPTY.parents, *(tree.parents for tree in several)]))
    assert forest.depths.tolist() == [depth for tree in several for depth in tree.depths().tolist()]
    assert forest.each_node(np.arange(len(several))).tolist() == [
        row for row, tree in enumerate(several) for _ in range(len(tree))
    ]
    values = np.arange(len(forest.parents), dtype=np.float32) + 1
    sums = forest.sum_paths(values)
    assert (forest.edges(sums) == values).all()


@given(trees(), st.data())
def test_any_prefix_is_a_tree(tree: TokenTree, data: st.DataObject) -> None:
    size = data.draw(st.integers(0, len(tree)))
    assert len(tree.prefix(size)) == size


@given(trees())
def test_children_finds_the_first_of_equal_siblings(tree: TokenTree) -> None:
    for (parent, token), node in tree.children().items():
        same = [i for i in range(len(tree)) if tree.parents[i] == parent and tree.tokens[i] == token]
        assert node == same[0]


@pytest.mark.parametrize("parents", [[0], [-2], [-1, 1], [-1, -1, 2]])
def test_a_parent_must_come_first(parents: list[int]) -> None:
    size = len(parents)
    with pytest.raises(ValueError, match="before its child"):
        TokenTree(np.zeros(size, np.int32), np.array(parents, np.int16), np.zeros(size, np.float32))


def test_columns_must_agree() -> None:
    with pytest.raises(ValueError, match="length"):
        TokenTree(EMPTY.tokens, np.array([-1], np.int16), EMPTY.logprobs)


@given(st.lists(st.integers(0, 2**32 - 1)), st.lists(st.integers(0, 2**32 - 1)))
def test_digests_chain(first: list[int], second: list[int]) -> None:
    assert digest.extend(digest.extend(digest.EMPTY, first), second) == digest.extend(digest.EMPTY, first + second)


def test_digest_of_known_tokens() -> None:
    assert digest.extend(digest.EMPTY, [1, 2, 3]).hex() == "7aa13bc17dda65dc"
