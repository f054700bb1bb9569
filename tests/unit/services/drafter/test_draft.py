"""Following a request's tokens: what stays, what moves, what is dropped."""

from __future__ import annotations

import numpy as np
import pytest

from services.drafter.draft import Draft
from shared import digest
from shared.inference.blocks import BlockPool, SequenceSlots
from shared.tree import TokenTree


def drafted() -> Draft:
    """Context 1 2 3, all fed, and the tree 4 -> (5, 6), 7 of which the first level is fed."""
    draft = Draft(SequenceSlots(BlockPool(16, 4)))
    draft.slots.reserve(20)
    draft.follow(0, [1, 2, 3])
    draft.slots.length = 3
    draft.tree = TokenTree(
        np.array([4, 7, 5, 6], np.int32), np.array([-1, -1, 0, 0], np.int16), np.zeros(4, np.float32)
    )
    draft.num_fed = 2
    return draft


@pytest.mark.parametrize(
    ("tokens", "moved", "length"),
    [
        ([4, 5, 9], [0], 4),  # 5 was never fed
        ([7, 9], [1], 4),
        ([9], [], 3),
    ],
)
def test_fed_nodes_on_the_path_are_moved_behind_the_context(
    tokens: list[int], moved: list[int], length: int
) -> None:
    draft = drafted()
    nodes = draft.slots.slots(3, 5)
    source, destination = draft.follow(3, tokens)
    assert source.tolist() == nodes[moved].tolist()
    assert destination.tolist() == nodes[: len(moved)].tolist()
    assert (draft.slots.length, draft.num_pending) == (length, 3 + len(tokens) - length)
    assert draft.digest == digest.extend(digest.EMPTY, [1, 2, 3, *tokens])


def test_a_fork_behind_the_base_drops_what_no_longer_holds() -> None:
    draft = drafted()
    source, _ = draft.follow(1, [2, 8, 9])
    assert len(source) == 0
    assert draft.tokens == [1, 2, 8, 9]
    assert (draft.slots.length, draft.num_fed, len(draft.tree)) == (2, 0, 0)
    assert draft.digest == digest.extend(digest.EMPTY, [1, 2, 8, 9])


def test_a_repeated_message_changes_nothing_but_the_tree() -> None:
    draft = drafted()
    draft.follow(0, [1, 2, 3])
    assert (draft.tokens, draft.slots.length) == ([1, 2, 3], 3)
    assert draft.knows(3)
    assert not draft.knows(4)
