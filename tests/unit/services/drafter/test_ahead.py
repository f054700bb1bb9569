"""Draft-ahead changes no tree, and no KV: rounds whose outcomes mostly were drafted from, in float64.

The state machine of `test_rerooting` meets it among everything else; here outcomes come true again and again.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from services.drafter import ahead
from services.drafter.draft import Draft
from services.drafter.drafter import Drafter
from services.drafter.guide import paths
from services.drafter.outcomes import likely_outcomes
from shared.inference.blocks import BlockPool
from shared.inference.runner import ModelRunner
from shared.tree import ROOT, TokenTree
from tests.unit.services.drafter.test_drafter import message
from tests.unit.services.drafter.test_drafter import new_drafter as table_drafter
from tests.unit.services.drafter.test_rerooting import Believed, Verifier, new_drafter, new_runner, prefilled
from tests.unit.shared.inference.tiny_models import VOCAB

ROUNDS = 7


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def check_kv(draft: Draft, runner: ModelRunner, fresh: ModelRunner, chance: random.Random) -> None:
    """Of the context and of three fed nodes, against prefills from nothing."""
    root = draft.slots.length
    where = draft.slots.slots(0, root + draft.num_fed).tolist()
    mine = runner.cache.data[:, :, where]
    torch.testing.assert_close(mine[:, :, :root], prefilled(fresh, draft.tokens[:root]), rtol=0, atol=1e-9)
    nodes = chance.sample(range(draft.num_fed), min(3, draft.num_fed))
    for node, path in zip(nodes, paths(draft.tree, nodes), strict=True):
        expected = prefilled(fresh, [*draft.tokens, *path])[:, :, -1]
        torch.testing.assert_close(mine[:, :, root + node], expected, rtol=0, atol=1e-9)


def newcomers_tree(fresh: ModelRunner, tokens: list[int], depth: int, width: int) -> TokenTree:
    drafter, verifier = new_drafter(fresh), Verifier({1: Believed(list(tokens), 1)})
    drafter.draft(verifier.message(0, 1)[1])
    verifier.requests[1].acknowledged = len(tokens)
    while drafter.has_cold_rows:
        drafter.warm()
    return drafter.draft(verifier.message(depth, width)[1]).trees[0]


def commit(draft: Draft, state: Believed, tree: TokenTree, chance: random.Random) -> None:
    """An outcome that was drafted from; or any walk down the tree and a token more."""
    if draft.branches and chance.random() < 0.7:
        state.tokens += chance.choice(draft.branches).tokens
        return
    node = ROOT
    for _ in range(chance.randint(0, 3)):
        children = [child for child, parent in enumerate(tree.parents.tolist()) if parent == node]
        if children:
            node = chance.choice(children)
            state.tokens.append(int(tree.tokens[node]))
    state.tokens.append(chance.randrange(VOCAB))


def test_trees_and_kv_are_those_of_drafting_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of any outcomes: how likely they are is another matter."""
    order = random.Random(0)
    monkeypatch.setattr(ahead, "LEAST_CHANCE", 0.0)
    monkeypatch.setattr(
        ahead, "likely_outcomes", lambda *about: order.sample(found := likely_outcomes(*about), len(found))
    )
    runner, fresh = new_runner(), new_runner()
    spared: list[int] = []
    for seed in range(24):
        chance = random.Random(seed)
        drafter, verifier = new_drafter(runner, is_ahead=True), Verifier()
        for number in (1, 2):
            prompt = [chance.randrange(VOCAB) for _ in range(chance.randint(1, 8))]
            verifier.requests[number] = Believed(prompt, number)
        width = chance.randint(1, 3)
        for _ in range(ROUNDS):
            width = width if chance.random() < 0.7 else chance.randint(1, 3)
            depth = chance.randint(1, 5)
            present, asked = verifier.message(depth, width)
            drafted = drafter.draft(asked)
            spared += [levels for levels in drafted.ahead.tolist() if levels >= 0]
            for number, tree in zip(present, drafted.trees, strict=True):
                expected = newcomers_tree(fresh, verifier.requests[number].tokens, depth, width)
                assert tree.tokens.tolist() == expected.tokens.tolist()
                assert tree.parents.tolist() == expected.parents.tolist()
                np.testing.assert_allclose(tree.logprobs, expected.logprobs, rtol=0, atol=1e-5)
            for _ in range(chance.choice([1, 3, 6, 6, 6])):
                if drafter.ahead.has_work:
                    drafter.ahead.advance()
            for draft, number, tree in zip(drafter._rows.values(), present, drafted.trees, strict=True):
                check_kv(draft, runner, fresh, chance)
                state = verifier.requests[number]
                state.acknowledged = len(state.tokens)
                commit(draft, state, tree, chance)
    assert len(set(spared) - {0}) >= 3
    assert sum(levels > 1 for levels in spared) > 10


def everything_ahead(drafter: Drafter) -> None:
    drafter.ahead.is_on = True
    drafter.draft(message([[1, 2], [3, 4]]))
    while drafter.ahead.has_work:
        drafter.ahead.advance()


def test_it_leaves_a_part_of_the_pool_free() -> None:
    drafter = table_drafter(num_blocks=16)
    everything_ahead(drafter)
    assert drafter.num_blocks - drafter.num_blocks_used >= 4


def test_a_full_pool_takes_back_what_was_drafted_ahead() -> None:
    drafter = table_drafter(num_blocks=16)
    everything_ahead(drafter)
    held = drafter.num_blocks_used
    assert any(draft.branches for draft in drafter._rows.values())
    rest = drafter._pool.allocate(drafter.num_blocks - held)
    drafted = drafter.draft(message([[1, 2, 5], [3, 4, 5], [6]], base=[2, 2, 0]))
    assert [len(tree) > 0 for tree in drafted.trees] == [True, True, True]
    drafter._pool.free(rest)


def test_rows_of_a_verifier_that_is_gone_are_drafted_for_no_more() -> None:
    drafter = table_drafter()
    drafter.ahead.is_on = True
    drafter.draft(message([[1, 2]]))
    assert drafter.ahead.has_work
    drafter.keep(set())
    assert not drafter.ahead.has_work
    assert drafter._pool.num_free == BlockPool(64, 4).num_free
