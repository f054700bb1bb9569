"""Which outcomes of a verification are likely (services/drafter/outcomes.py)."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from services.drafter.outcomes import Selected, Top, likely_outcomes
from shared.tree import ROOT, TokenTree


def tree(*nodes: tuple[int, int, float]) -> TokenTree:
    """(token, parent, path probability)."""
    tokens, parents, chances = zip(*nodes, strict=True)
    return TokenTree(
        np.array(tokens, np.int32), np.array(parents, np.int16), np.log(np.array(chances, np.float32))
    )


def top(*children: tuple[int, float]) -> Top:
    """(token, its probability)."""
    ids, chances = zip(*children, strict=True)
    return Top(np.array(ids, np.int32), np.log(np.array(chances, np.float32)))


TREE = tree((4, ROOT, 0.8), (5, ROOT, 0.1), (6, 0, 0.7))
TOPS = {ROOT: top((4, 0.8), (5, 0.1)), 0: top((6, 0.875)), 1: top((9, 0.5)), 2: top((7, 0.9), (8, 0.1))}


def taught(*walks: list[int]) -> Selected:
    selected = Selected()
    for walk in walks * 60:
        selected.learn(TREE, walk)
    return selected


def ends(selected: Selected) -> dict[tuple[int, int], float]:
    return {(o.parent, o.token): o.probability for o in likely_outcomes(TREE, TOPS, selected)}


def test_below_a_selected_leaf_its_likeliest_child_ends_the_walk() -> None:
    found = likely_outcomes(TREE, TOPS, taught([4, 6, 7]))  # nobody knows that 7 was not drafted
    assert (found[0].parent, found[0].token) == (2, 7)
    assert found[0].probability == pytest.approx(0.7 * 0.9, abs=0.05)
    assert found[0].logprob == pytest.approx(math.log(0.7 * 0.9), abs=1e-5)


def test_a_drafted_node_that_is_never_selected_ends_the_walk_itself() -> None:
    found = likely_outcomes(TREE, TOPS, taught([4, 6]))
    assert (found[0].parent, found[0].token) == (0, 6)
    assert ends(taught([4, 6]))[ROOT, 4] < 0.05  # it is selected, so the walk goes on


def test_where_nothing_is_selected_the_root_has_the_outcomes() -> None:
    found = likely_outcomes(TREE, TOPS, taught([4], [5]))
    assert [(o.parent, o.token) for o in found[:2]] == [(ROOT, 4), (ROOT, 5)]
    assert found[0].probability == pytest.approx(0.8, abs=0.05)


def test_outcomes_are_never_more_than_certain() -> None:
    assert sum(ends(Selected()).values()) <= 1.0


def test_a_fixed_share_is_learned_though_path_probabilities_say_nothing() -> None:
    """One node of each tree is selected, however likely it is: only its rank tells."""
    chance, selected = random.Random(1), Selected()
    for _ in range(400):
        first = chance.uniform(0.05, 0.95)
        selected.learn(tree((1, ROOT, first), (2, 0, first * chance.uniform(0.9, 1.0))), [1, 2])
    assert selected.of(np.log(np.array([0.3, 0.29], np.float32))).tolist() == pytest.approx([1.0, 0.0], abs=0.1)
