"""Typical acceptance by the paper's rule, and that nobody gets it without asking."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.verifier.acceptance import Walk, walk_trees
from services.verifier.sampling import Draw, SamplingParams, draw_token, probabilities
from services.verifier.typical import entropy, typical_child
from shared.tree import TokenTree
from tests.strategies import trees
from tests.unit.services.verifier.test_acceptance import MODEL, tree_logits

WARM = SamplingParams(temperature=1.0, seed=3)


def logits(*probs: float) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(np.array(probs))


@pytest.mark.parametrize(
    ("probs", "children", "threshold", "found"),
    [
        # H = 0.94 nats: min(0.09, 0.3 * 0.39) = 0.09
        ((0.6, 0.3, 0.08, 0.02), [1], 0.09, 1),
        ((0.6, 0.3, 0.08, 0.02), [2], 0.09, None),
        ((0.6, 0.3, 0.08, 0.02), [3, 1, 0], 0.09, 0),  # the likeliest
        ((0.6, 0.3, 0.08, 0.02), [1], 0.36, 1),  # min(0.36, 0.6 * 0.39 = 0.23)
        ((0.25, 0.25, 0.25, 0.25), [2, 1], 0.09, 1),  # H = ln 4: 0.3 / 4; the smaller id where they tie
        ((0.25, 0.25, 0.25, 0.25), [0], 0.9, 0),  # sqrt(0.9) / 4 < 1 / 4
        ((0.25, 0.25, 0.25, 0.25), [0], 1.0, None),  # not above
        ((0.97, 0.01, 0.01, 0.01), [1], 0.09, None),
        ((0.6, 0.4, 0.0, 0.0), [2], 0.01, None),  # impossible
        ((0.6, 0.4, 0.0, 0.0), [], 0.01, None),
    ],
)
def test_a_child_is_typical_above_the_smaller_of_the_thresholds(
    probs: tuple[float, ...], children: list[int], threshold: float, found: int | None
) -> None:
    assert typical_child(logits(*probs), Draw(WARM, 5), children, threshold) == found


def test_the_rule_is_over_what_the_request_may_be_drawn() -> None:
    scores = logits(0.5, 0.3, 0.2)
    cold = SamplingParams(temperature=0.0)
    assert typical_child(scores, Draw(cold, 5), [1, 2], 0.01) is None
    assert typical_child(scores, Draw(cold, 5), [0], 0.01) == 0
    assert typical_child(scores, Draw(WARM, 5, banned=frozenset({1})), [1], 0.01) is None
    narrow = SamplingParams(temperature=1.0, top_k=1)
    assert typical_child(scores, Draw(narrow, 5), [1], 0.01) is None


@given(probs=st.lists(st.floats(0.001, 1.0), min_size=2, max_size=6), temperature=st.sampled_from([0.5, 1.0, 2.0]))
def test_probabilities_are_those_that_tokens_are_drawn_with(probs: list[float], temperature: float) -> None:
    scores = np.log(np.array(probs))
    ids, found = probabilities(scores, Draw(SamplingParams(temperature=temperature), 0))
    expected = np.array(probs) ** (1 / temperature)
    assert ids.tolist() == list(range(len(probs)))
    assert np.allclose(found, expected / expected.sum())
    assert -1e-12 <= entropy(found) <= np.log(len(probs)) + 1e-12


PARAMS = st.builds(
    SamplingParams, temperature=st.sampled_from([0.0, 0.7, 1.5]), top_k=st.sampled_from([0, 3]),
    seed=st.integers(0, 2**64 - 1),
)  # fmt: skip
CONTEXTS = st.lists(st.integers(0, 5), min_size=1, max_size=5)


@given(
    tree=trees(max_nodes=12, vocab=6), params=PARAMS, context=CONTEXTS, threshold=st.sampled_from([0.01, 0.2, 1])
)
@settings(max_examples=50)
def test_every_token_is_drawn_or_a_typical_child_and_at_temperature_0_drawn(
    tree: TokenTree, params: SamplingParams, context: list[int], threshold: float
) -> None:
    walk = Walk(tree, 0, params, len(context), typical=threshold)
    exact = Walk(tree, 0, params, len(context))
    walk_trees(tree_logits(context, tree), [exact])
    walk_trees(tree_logits(context, tree), [walk])
    if params.temperature == 0.0:
        assert walk.tokens == exact.tokens
    assert not walk.is_free
    at, node = list(context), -1
    for index, token in enumerate(walk.tokens):
        draw, row = Draw(params, len(at)), MODEL.logits(at)
        drawn = draw_token(row, draw)
        children = {child: n for (parent, child), n in tree.children().items() if parent == node}
        if token != drawn:
            assert drawn not in children
            assert token == typical_child(row, draw, children, threshold)
            assert walk.path[index] == children[token]
        at.append(token)
        node = children.get(token, -2)
    assert len(walk.path) == len(walk.tokens) - 1


def test_it_accepts_where_the_exact_rule_does_not() -> None:
    tree = TokenTree(np.array([1], np.int32), np.array([-1], np.int16), np.array([-0.5], np.float32))
    rows = np.stack([logits(0.5, 0.5), logits(0.5, 0.5)])
    seeds = range(200)
    lengths = []
    for threshold in (0.0, 0.09):
        walks = [Walk(tree, 0, SamplingParams(temperature=1.0, seed=seed), 4, typical=threshold) for seed in seeds]
        for walk in walks:
            walk_trees(rows, [walk])
        lengths.append(sum(len(walk.path) for walk in walks))
    assert 60 < lengths[0] < 140
    assert lengths[1] == 200
