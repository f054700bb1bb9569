"""The same work packed and padded."""

from __future__ import annotations

import numpy as np

from bench.limits.batches import Padded, Work, ancestors, chain_work, mixed_works
from bench.limits.workload import candidate_trees, draft_request, selected_trees
from shared.codec import decode, encode
from shared.messages import CandidateTrees, DraftRequest, SelectedTrees


def work(context: int, parents: list[int], *, wants_all: bool = True) -> Work:
    size = len(parents)
    return Work(
        np.arange(context, dtype=np.int32), np.arange(size, dtype=np.int32), np.array(parents, np.int32), wants_all
    )


def test_nodes_see_their_ancestors_and_themselves() -> None:
    assert ancestors(np.array([-1, 0, 0, 2], np.int32)).astype(int).tolist() == [
        [1, 0, 0, 0],
        [1, 1, 0, 0],
        [1, 0, 1, 0],
        [1, 0, 1, 1],
    ]


def test_a_padded_batch_hides_what_is_padding() -> None:
    padded = Padded.of([work(2, [-1, 0, 0]), work(3, [-1])])
    assert padded.ids.tolist() == [[0, 1, 2], [0, 0, 0]]
    assert padded.positions.tolist() == [[2, 3, 3], [3, 0, 0]]
    sees = (padded.mask == 0).int().squeeze(1).tolist()
    assert sees[0] == [[1, 1, 0, 1, 0, 0], [1, 1, 0, 1, 1, 0], [1, 1, 0, 1, 0, 1]]
    assert sees[1][0] == [1, 1, 1, 1, 0, 0]
    assert sees[1][1] == [1, 1, 1, 0, 0, 0]  # a row of padding sees something, or its attention were NaN


def test_trees_want_every_node_and_chunks_their_last() -> None:
    works = mixed_works(trees=(3, 5), chunks=(4,))
    assert [len(each.tokens) for each in works] == [4, 6, 4]
    assert [each.wanted.tolist() for each in works] == [[0, 1, 2, 3], [0, 1, 2, 3, 4, 5], [3]]
    for each in works[:2]:
        assert each.parents[0] == -1
        assert all(0 <= parent < node for node, parent in enumerate(each.parents.tolist()) if node)
    assert chain_work(3).parents.tolist() == [-1, 0, 1]


def test_made_up_messages_are_what_they_say_on_the_wire() -> None:
    for kind, message in (
        (DraftRequest, draft_request(4)),
        (CandidateTrees, candidate_trees(4)),
        (SelectedTrees, selected_trees(4)),
    ):
        again = decode(kind, encode(message))
        assert len(again.request) == 4
    assert len(selected_trees(4).tokens) == 4 * 24
