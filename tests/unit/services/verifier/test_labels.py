"""Which edges of a step's walks are labels (services/verifier/labels.py), against one node after the other."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.verifier.acceptance import Walk
from services.verifier.labels import learn
from services.verifier.sampling import SamplingParams
from shared.calibration import Calibration
from shared.labels import MAX_CALIBRATED_DEPTH, LabelCounts, bins
from shared.tree import ROOT, TokenTree
from tests.strategies import trees

IDENTITY = Calibration.fit(LabelCounts.none())
GREEDY = SamplingParams(temperature=0.0)


@st.composite
def walks(draw: st.DrawFn) -> tuple[int, Walk]:
    """A bucket and a finished walk down any tree; some are masked."""
    tree = draw(trees(max_nodes=15, vocab=4))
    walk = Walk(tree, 0, GREEDY, 5, min_position=draw(st.sampled_from([0, 5, 6])), banned=frozenset({3}))
    while walk.take(draw(st.integers(0, 3))):
        pass
    return draw(st.integers(0, 8)), walk


def judged(bucket: int, walk: Walk) -> list[tuple[int, int, int, bool]]:
    """(bucket, depth - 1, bin, accepted) of every label, as the definition reads."""
    tree, depths = walk.tree, walk.tree.depths().tolist()
    drawn_at = dict(zip([ROOT, *walk.path], walk.tokens, strict=True))
    found = []
    for node, parent in enumerate(tree.parents.tolist()):
        if parent in drawn_at:
            above = np.float32(0.0) if parent == ROOT else tree.logprobs[parent]
            [place] = bins(np.array([tree.logprobs[node] - above]))
            depth = min(depths[node], MAX_CALIBRATED_DEPTH)
            found.append((bucket, depth - 1, int(place), bool(tree.tokens[node] == drawn_at[parent])))
    return found


@given(st.lists(walks(), max_size=5))
def test_labels_are_the_edges_below_reached_nodes(batch: list[tuple[int, Walk]]) -> None:
    expected = LabelCounts.none()
    free = [(bucket, walk) for bucket, walk in batch if walk.position >= walk.min_position]
    for bucket, walk in free:
        for *cell, accepted in judged(bucket, walk):
            expected.labels[tuple(cell)] += 1
            expected.accepted[tuple(cell)] += accepted
    lesson = learn(batch, IDENTITY)
    assert (lesson.counts.labels == expected.labels).all()
    assert (lesson.counts.accepted == expected.accepted).all()
    assert lesson.num_accepted == sum(len(walk.path) for _, walk in free)
    promised = sum(math.exp(value) for _, walk in free for value in walk.tree.logprobs.tolist())
    assert lesson.num_expected_raw == pytest.approx(promised, rel=1e-5)


def test_confident_edges_are_judged_ones_of_nine_tenths_and_more() -> None:
    edges = np.log([0.95, 0.5 / 0.95, 0.99, 0.999]).astype(np.float32)
    paths = np.array([edges[0], edges[0] + edges[1], edges[0] + edges[1] + edges[2], edges[3]], np.float32)
    tree = TokenTree(np.array([1, 2, 3, 4], np.int32), np.array([-1, 0, 1, -1], np.int16), paths)
    walk = Walk(tree, 0, GREEDY, 5)
    assert walk.take(1)
    assert not walk.take(7)  # so the third node is never judged
    lesson = learn([(0, walk)], IDENTITY)
    assert (lesson.num_confident, lesson.num_confident_rejected) == (2, 1)
    assert lesson.counts.by_depth == ([2.0, 1.0, *[0.0] * 6], [1.0, *[0.0] * 7])


def test_masked_walks_teach_nothing() -> None:
    tree = TokenTree(np.array([1], np.int32), np.array([-1], np.int16), np.array([-0.1], np.float32))
    masked = Walk(tree, 0, GREEDY, 5, min_position=6, banned=frozenset({2}))
    masked.take(0)
    assert not masked.is_free
    assert learn([(0, masked)], IDENTITY).counts.num_labels == 0


def test_odd_log_probabilities_are_worth_nothing() -> None:
    odd = np.array([-np.inf, -np.inf, 3e38], np.float32)
    tree = TokenTree(np.array([1, 2, 3], np.int32), np.array([-1, 0, -1], np.int16), odd)
    walk = Walk(tree, 0, GREEDY, 5)
    walk.take(1)
    walk.take(0)
    lesson = learn([(0, walk)], IDENTITY)
    assert lesson.counts.num_labels == 3
    assert lesson.num_expected_raw == 1.0
    assert 0.99 < lesson.num_expected < 1.0
