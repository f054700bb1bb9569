"""A branch gives back what the model said, for its own width and for smaller ones (services/drafter/branch.py)."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.drafter.branch import Branch
from services.drafter.expansion import Expansion
from services.drafter.guide import paths
from shared.tree import TokenTree
from tests.unit.services.drafter.test_expansion import top

CONTEXT = [1, 2]


def grown(depth: int, width: int, branch: Branch | None = None) -> TokenTree:
    """The tree below CONTEXT; every answer goes to ``branch`` too."""
    expansion = Expansion(np.array([depth]), width)
    while len(expansion.frontier.row):
        ways = paths(expansion.trees()[0], expansion.frontier.node.tolist())
        answers = [top([*CONTEXT, *way], width) for way in ways]
        ids = np.array([ids for ids, _ in answers], np.int32)
        logprobs = np.array([logprobs for _, logprobs in answers], np.float32)
        if branch is not None:
            branch.nodes += range(100 + branch.num_fed, 100 + branch.num_fed + (expansion.depth and len(ids)))
            branch.learned(ids, logprobs)
        expansion.grow(ids, logprobs)
    return expansion.trees()[0]


def recalled(branch: Branch, depth: int, width: int) -> tuple[TokenTree, int]:
    """As far as the branch goes: the tree and its depth."""
    expansion = Expansion(np.array([depth]), width)
    while len(expansion.frontier.row) and (answer := branch.recall(expansion.frontier.node)) is not None:
        expansion.grow(*answer)
    return expansion.trees()[0], expansion.depth


@given(depth=st.integers(1, 4), wide=st.integers(1, 5), narrow=st.integers(1, 5), wanted=st.integers(1, 5))
def test_what_is_recalled_is_what_drafting_gives(depth: int, wide: int, narrow: int, wanted: int) -> None:
    width = min(wide, narrow)
    branch = Branch([9], [7], wide)
    tree = grown(depth, wide, branch)
    narrowed, kept = branch.narrowed(width)
    got, reached = recalled(narrowed, wanted, width)
    assert 1 <= reached <= min(depth, wanted)
    if width == wide:
        assert reached == min(depth, wanted)
    expected = grown(reached, width)
    assert got.tokens.tolist() == expected.tokens.tolist()
    assert got.parents.tolist() == expected.parents.tolist()
    assert got.logprobs.tolist() == expected.logprobs.tolist()
    assert narrowed.nodes == [100 + node for node in kept.tolist()]
    own = paths(tree, kept.tolist())
    assert own == paths(grown(depth, width), range(len(own))), "kept nodes are the narrower tree's, in its order"


def test_nothing_is_recalled_before_the_model_was_asked() -> None:
    assert recalled(Branch([9], [7], 3), 2, 3)[1] == 0
