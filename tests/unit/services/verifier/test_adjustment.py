"""Bias and penalties against a dense reference, id by id; at every node of a tree, with the node's own path."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.verifier.acceptance import Walk, walk_trees
from services.verifier.adjustment import FIRST_CAPACITY, Adjustment
from services.verifier.sampling import Draw, SamplingParams, draw_token
from shared.messages import Request
from shared.tree import TokenTree
from tests.effort import examples
from tests.requests import request
from tests.ring import adjusted, plain
from tests.strategies import trees
from tests.table_model import TableModel

VOCAB = 6
MODEL = TableModel(vocab_size=VOCAB)
IDS = st.integers(0, VOCAB - 1)


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """Any bias and penalties, neutral ones included, on any prompt."""
    bias = draw(st.dictionaries(IDS, st.floats(-100, 100), max_size=VOCAB))
    return request(
        prompt=draw(st.lists(IDS, min_size=1, max_size=6)),
        max_tokens=24,
        temperature=draw(st.sampled_from([0.0, 0.7, 1.5])),
        top_k=draw(st.sampled_from([0, 3])),
        top_p=draw(st.sampled_from([1.0, 0.8])),
        min_p=draw(st.sampled_from([0.0, 0.1])),
        seed=draw(st.integers(0, 2**64 - 1)),
        presence_penalty=draw(st.sampled_from([0.0, -2.0, 0.5]) | st.floats(-2, 2)),
        frequency_penalty=draw(st.sampled_from([0.0, 0.1, 2.0]) | st.floats(-2, 2)),
        repetition_penalty=draw(st.sampled_from([1.0, 0.5, 1.3]) | st.floats(0.01, 2)),
        bias_ids=np.array(list(bias), np.int32),
        bias=np.array(list(bias.values()), np.float64),
    )


def after(asked: Request, output: list[int]) -> Adjustment | None:
    adjustment = Adjustment.of(asked)
    if adjustment is not None:
        adjustment.extend(output)
    return adjustment


@given(asked=requests(), output=st.lists(IDS, max_size=12), path=st.lists(IDS, max_size=8))
@settings(max_examples=examples(500))
def test_scores_equal_the_dense_references_bit_for_bit(asked: Request, output: list[int], path: list[int]) -> None:
    logits = MODEL.logits([*output, *path])
    scores = logits.copy()
    adjustment = after(asked, output)
    if adjustment is not None:
        adjustment.apply(scores, path)
    assert scores.tobytes() == adjusted(logits, asked, [*output, *path]).tobytes()


@given(asked=requests(), output=st.lists(IDS, max_size=12), path=st.lists(IDS, max_size=8))
def test_a_path_counts_like_the_output_it_becomes(asked: Request, output: list[int], path: list[int]) -> None:
    on_path, committed = MODEL.logits([1]).copy(), MODEL.logits([1]).copy()
    before, later = after(asked, output), after(asked, [*output, *path])
    if before is not None and later is not None:
        before.apply(on_path, path)
        later.apply(committed, [])
        again = MODEL.logits([1]).copy()
        before.apply(again, path)  # looking ahead has left nothing behind
        assert on_path.tobytes() == committed.tobytes() == again.tobytes()


@given(asked=requests(), output=st.lists(IDS, max_size=8), tree=trees(max_nodes=20, vocab=VOCAB))
@settings(max_examples=examples(300))
def test_every_node_draws_what_plain_decoding_draws_after_its_path(
    asked: Request, output: list[int], tree: TokenTree
) -> None:
    """All nodes, not only those that a walk happens to reach."""
    params, prompt = SamplingParams.of(asked), asked.prompt.tolist()
    paths: list[list[int]] = [[]]
    for token, parent in zip(tree.tokens.tolist(), tree.parents.tolist(), strict=True):
        paths.append([*paths[parent + 1], token])
    positions = [len(prompt) + len(output) + len(path) for path in paths]
    logits = np.array([MODEL.logits([*prompt, *output, *path]) for path in paths])
    adjustment = after(asked, output)
    in_tree = [
        draw_token(row, Draw(params, at, frozenset(), adjustment, path))
        for row, path, at in zip(logits, paths, positions, strict=True)
    ]
    one_by_one = [
        draw_token(adjusted(row, asked, [*output, *path]), Draw(params, at))
        for row, path, at in zip(logits, paths, positions, strict=True)
    ]
    assert in_tree == one_by_one


@given(asked=requests(), tree=trees(max_nodes=20, vocab=VOCAB))
@settings(max_examples=examples(200))
def test_a_walk_gives_the_tokens_of_plain_decoding(asked: Request, tree: TokenTree) -> None:
    prompt = asked.prompt.tolist()
    contexts = [prompt]
    for token, parent in zip(tree.tokens.tolist(), tree.parents.tolist(), strict=True):
        contexts.append([*contexts[parent + 1], token])
    walk = Walk(tree, 0, SamplingParams.of(asked), len(prompt), adjustment=Adjustment.of(asked))
    walk_trees(np.array([MODEL.logits(context) for context in contexts]), [walk])
    assert walk.tokens == plain(MODEL, asked)[: len(walk.tokens)]


@pytest.mark.parametrize(
    "change",
    [
        {"presence_penalty": 0.1},
        {"frequency_penalty": 0.1},
        {"repetition_penalty": 1.1},
        {"bias_ids": np.array([1], np.int32), "bias": np.array([1.0])},
    ],
)
def test_only_a_request_that_asks_is_adjusted_and_its_walks_are_not_free(change: dict[str, Any]) -> None:
    assert Adjustment.of(request()) is None
    adjustment = Adjustment.of(request(**change))
    assert adjustment is not None
    tree = TokenTree(np.array([1], np.int32), np.array([-1], np.int16), np.zeros(1, np.float32))
    assert Walk(tree, 0, SamplingParams(temperature=0.0), 3).is_free
    assert not Walk(tree, 0, SamplingParams(temperature=0.0), 3, adjustment=adjustment).is_free


def test_counts_of_more_ids_than_the_first_arrays_hold() -> None:
    size = 3 * FIRST_CAPACITY
    asked = request(prompt=[0], frequency_penalty=0.5, presence_penalty=1.0, repetition_penalty=2.0)
    output = [token for token in range(size) for _ in range(1 + token % 3)]
    scores = np.ones(size)
    adjustment = after(asked, output)
    assert adjustment is not None
    adjustment.apply(scores, [])
    assert scores.tobytes() == adjusted(np.ones(size), asked, output).tobytes()


def test_the_smallest_repetition_penalty_leaves_numbers() -> None:
    asked = request(prompt=[0, 1], repetition_penalty=5e-308, temperature=0.7)
    params = SamplingParams.of(asked)
    drawn = draw_token(np.array([3.0, -3.0, 9.0]), Draw(params, 2, frozenset(), Adjustment.of(asked)))
    assert drawn == 0
