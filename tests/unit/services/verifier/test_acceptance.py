"""Sample and match: whatever the tree, the outcome is plain decoding's."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from services.verifier.acceptance import Walk, walk_trees
from services.verifier.sampling import Draw, SamplingParams, draw_token
from shared.tree import ROOT, TokenTree
from tests.effort import examples
from tests.strategies import trees
from tests.table_model import TableModel

MODEL = TableModel(vocab_size=6)
CONTEXTS = st.lists(st.integers(0, 5), min_size=1, max_size=5)
PARAMS = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0.0, 0.7, 1.5]),
    top_k=st.sampled_from([0, 3]),
    top_p=st.sampled_from([1.0, 0.8]),
    seed=st.integers(0, 2**64 - 1),
)


def node_contexts(context: list[int], tree: TokenTree) -> list[list[int]]:
    """The context of the root and of every node."""
    paths = [context]
    for token, parent in zip(tree.tokens.tolist(), tree.parents.tolist(), strict=True):
        paths.append([*paths[parent + 1], token])
    return paths


def tree_logits(context: list[int], tree: TokenTree) -> np.ndarray:
    return np.array([MODEL.logits(path) for path in node_contexts(context, tree)])


def plain(context: list[int], params: SamplingParams, count: int) -> list[int]:
    tokens = list(context)
    for _ in range(count):
        tokens.append(draw_token(MODEL.logits(tokens), Draw(params, len(tokens))))
    return tokens[len(context) :]


@given(
    tree=trees(max_nodes=20, vocab=6), params=PARAMS, context=st.lists(st.integers(0, 5), min_size=1, max_size=5)
)
@settings(max_examples=examples(300))
def test_any_tree_gives_the_tokens_of_plain_decoding(
    tree: TokenTree, params: SamplingParams, context: list[int]
) -> None:
    walk = Walk(tree, 0, params, len(context))
    walk_trees(tree_logits(context, tree), [walk])
    assert walk.tokens == plain(context, params, len(walk.tokens))


@given(forest=st.lists(trees(max_nodes=8, vocab=6), min_size=1, max_size=4), params=PARAMS)
def test_requests_of_a_batch_do_not_touch_each_other(forest: list[TokenTree], params: SamplingParams) -> None:
    contexts = [[number, number + 1] for number in range(len(forest))]
    logits = [tree_logits(context, tree) for context, tree in zip(contexts, forest, strict=True)]
    first = np.cumsum([0, *map(len, logits)])
    walks = [Walk(tree, int(start), params, 2) for tree, start in zip(forest, first, strict=False)]
    walk_trees(np.concatenate(logits), walks)
    for walk, context in zip(walks, contexts, strict=True):
        assert walk.tokens == plain(context, params, len(walk.tokens))


@given(tree=trees(max_nodes=20, vocab=6), params=PARAMS)
def test_the_path_spells_all_drawn_tokens_but_the_last(tree: TokenTree, params: SamplingParams) -> None:
    walk = Walk(tree, 0, params, 1)
    walk_trees(tree_logits([0], tree), [walk])
    assert tree.tokens[walk.path].tolist() == walk.tokens[:-1]
    assert [int(tree.parents[node]) for node in walk.path] == [ROOT, *walk.path[:-1]][: len(walk.path)]


def test_banned_ids_end_with_the_minimum_length() -> None:
    banned = frozenset(range(5))
    walk = Walk(_chain([5, 5, 5, 5]), 0, SamplingParams(temperature=0.0), 3, min_position=5, banned=banned)
    logits = np.tile(np.array([9.0, 0, 0, 0, 0, 1.0]), (5, 1))
    walk_trees(logits, [walk])
    assert walk.tokens == [5, 5, 0]  # positions 3 and 4 are below the minimum


def test_drawing_and_matching_reproduces_the_target_distribution() -> None:
    """Two tokens drawn through a tree against their exact joint distribution, over 20,000 seeds: chi-squared."""
    model = TableModel(vocab_size=3, seed=1)
    tree = TokenTree(np.array([0, 1, 2, 2], np.int32), np.array([-1, -1, 0, 1], np.int16), np.zeros(4, np.float32))
    context, count = [1], 20_000
    logits = np.array([model.logits(path) for path in node_contexts(context, tree)])
    after = {token: model.logits([*context, token]) for token in range(3)}
    pairs: Counter[tuple[int, int]] = Counter()
    for seed in range(count):
        params = SamplingParams(temperature=1.3, seed=seed)
        walk = Walk(tree, 0, params, 1)
        walk_trees(logits, [walk])
        tokens = walk.tokens
        if len(tokens) < 2:  # the first token was not in the tree: the next step draws the second
            tokens = [*tokens, draw_token(after[tokens[0]], Draw(params, 2))]
        pairs[tokens[0], tokens[1]] += 1
    first = _softmax(logits[0] / 1.3)
    expected = {(a, b): count * first[a] * _softmax(after[a] / 1.3)[b] for a in range(3) for b in range(3)}
    statistic = sum((pairs[pair] - mean) ** 2 / mean for pair, mean in expected.items())
    assert statistic < 26.13  # 99.9 % of chi-squared with 8 degrees of freedom


def _softmax(scores: np.ndarray) -> np.ndarray:
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()


def _chain(tokens: list[int]) -> TokenTree:
    size = len(tokens)
    return TokenTree(
        np.array(tokens, np.int32), np.arange(-1, size - 1, dtype=np.int16), np.zeros(size, np.float32)
    )
