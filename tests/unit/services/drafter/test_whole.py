"""Rounds that the device runs by itself draft the trees, and leave the KV, of drafting level by level."""

from __future__ import annotations

import copy
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from services.drafter.branch import Branch
from services.drafter.draft import Draft
from services.drafter.drafter import Drafted, Drafter
from services.drafter.expansion import Expansion
from services.drafter.guide import Guide
from services.drafter.whole import can_run_whole, run_whole
from shared.inference.blocks import BlockPool, SequenceSlots
from shared.inference.buckets import Load
from shared.inference.rounds import Beams
from shared.inference.runner import ModelRunner
from shared.messages import NO_ROOM
from tests.effort import examples
from tests.unit.services.drafter.test_drafter import message
from tests.unit.services.drafter.test_rerooting import (
    BLOCK_SIZE,
    BLOCKS,
    HISTORIES,
    Rerooting,
    new_runner,
    one_thread,
)
from tests.unit.shared.inference.test_tiled import PlainInPlace
from tests.unit.shared.inference.tiny_models import VOCAB, stock_model

__all__ = ["one_thread"]

TOKENS = st.integers(0, VOCAB - 1)
LOAD = Load(rows=4, chunk=8, context=256, trees=(1, 3, 9), widths=(1, 2, 3, 4))
WAYS: dict[str, dict[str, Any]] = {
    "gathered": {},
    "in place": {"in_place": PlainInPlace()},
    "gathered, replayed": {"recorded": True},
    "in place, replayed": {"in_place": PlainInPlace(), "recorded": True},
}


class Counted:
    """Rounds that ran as a whole."""

    def __init__(self, runner: ModelRunner) -> None:
        self.calls = 0
        self._runner = runner

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        self.calls += 1
        return self._runner.beams(*arguments, **named)


def whole_drafter(
    way: str = "gathered", family: str = "llama", num_blocks: int = BLOCKS, **options: Any
) -> tuple[Drafter, Counted]:
    runner = ModelRunner(
        copy.deepcopy(stock_model(family, torch.float64)), num_blocks * BLOCK_SIZE, tiled=True, **WAYS[way]
    )
    runner.record(LOAD)
    search = Counted(runner)
    limits = {"max_tokens": 64, "catch_up": 8, "warm_chunk": 5, **options}
    return Drafter(runner, BlockPool(num_blocks, BLOCK_SIZE), search=search, **limits), search


def by_level(family: str = "llama", num_blocks: int = BLOCKS, **options: Any) -> Drafter:
    runner = ModelRunner(copy.deepcopy(stock_model(family, torch.float64)), num_blocks * BLOCK_SIZE)
    limits = {"max_tokens": 64, "catch_up": 8, "warm_chunk": 5, **options}
    return Drafter(runner, BlockPool(num_blocks, BLOCK_SIZE), **limits)


def assert_same(actual: Drafted, expected: Drafted) -> None:
    assert actual.acknowledged.tolist() == expected.acknowledged.tolist()
    assert actual.depth == expected.depth
    for mine, theirs in zip(actual.trees, expected.trees, strict=True):
        assert mine.tokens.tolist() == theirs.tokens.tolist()
        assert mine.parents.tolist() == theirs.parents.tolist()
        np.testing.assert_allclose(mine.logprobs, theirs.logprobs, rtol=0, atol=1e-5)


@st.composite
def rounds(draw: st.DrawFn) -> dict[str, Any]:
    contexts = draw(st.lists(st.lists(TOKENS, min_size=1, max_size=9), min_size=1, max_size=4))
    size = len(contexts)
    return {
        "contexts": contexts,
        "depth": draw(st.integers(0, 5)),
        "width": draw(st.integers(1, 4)),
        "max_depth": np.array(draw(st.lists(st.integers(0, 6), min_size=size, max_size=size)), np.uint8),
        "weight": np.array(draw(st.lists(st.floats(0.1, 4), min_size=size, max_size=size)), np.float32),
        "stop_value": draw(st.sampled_from([0.0, 0.0, 0.3, 1.0, 3.0])),
    }


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("family", ["llama", "qwen2-window", "qwen3", "mistral-window"])
def test_trees_are_those_of_drafting_level_by_level(family: str, way: str) -> None:
    whole, search = whole_drafter(way, family, max_tokens=8)  # so few that many rows get narrower trees
    expected = by_level(family, max_tokens=8)

    @settings(deadline=None, max_examples=examples(15))
    @given(rounds())
    def check(asked: dict[str, Any]) -> None:
        for _ in range(2):
            assert_same(whole.draft(message(**asked)), expected.draft(message(**asked)))

    check()
    assert search.calls


@pytest.mark.parametrize("way", ["gathered", "in place, replayed"])
def test_near_the_end_of_the_pool_and_of_the_model_trees_are_as_shallow(way: str) -> None:
    whole, search = whole_drafter(way, num_blocks=4, catch_up=300)
    expected = by_level(num_blocks=4, catch_up=300)
    for size in (13, 12, 9, 7):
        asked = message([[5] * size, [3, 4]], depth=5, width=2)
        assert_same(whole.draft(asked), expected.draft(asked))
    whole, search = whole_drafter(way, catch_up=300)
    expected = by_level(catch_up=300)
    for size in (253, 254, 255, 256, 258):  # the model knows 256 positions
        context = np.random.default_rng(size).integers(0, VOCAB, size).tolist()
        for _ in range(3):
            asked = message([context, context[:7]], depth=3, width=2)
            assert_same(whole.draft(asked), expected.draft(asked))
    assert search.calls


class WholeRounds(Rerooting):
    """The same histories, with rounds as a whole and nothing drafted ahead."""

    search: Any

    def new_drafter(self) -> Drafter:
        pool = BlockPool(BLOCKS, BLOCK_SIZE)
        return Drafter(self.runner, pool, max_tokens=64, catch_up=8, warm_chunk=5, search=self.search)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("way", ["gathered", "in place, replayed"])
def test_kv_and_trees_survive_any_history(way: str) -> None:
    model = copy.deepcopy(stock_model("llama", torch.float64))
    WholeRounds.runner = ModelRunner(model, BLOCKS * BLOCK_SIZE, tiled=True, **WAYS[way])
    WholeRounds.runner.record(LOAD)
    WholeRounds.fresh = new_runner()
    WholeRounds.search = Counted(WholeRounds.runner)
    run_state_machine_as_test(WholeRounds, settings=HISTORIES)
    assert WholeRounds.search.calls


def test_rows_without_room_are_told_so_and_the_others_drafted() -> None:
    whole, search = whole_drafter(num_blocks=3)
    drafted = whole.draft(message([[1] * 6, [2] * 9]))
    assert drafted.acknowledged.tolist() == [6, NO_ROOM]
    assert search.calls == 1


def test_what_a_grammar_binds_and_what_has_come_true_ahead_is_drafted_level_by_level() -> None:
    free, bound, taken = (Draft(SequenceSlots(BlockPool(4))) for _ in range(3))
    compiling: Future[Any] = Future()
    bound.guide, taken.taken = Guide(compiling, 0), Branch([1], [0], 2)
    assert can_run_whole([free, free], 3, 3)
    assert not can_run_whole([free, free], 4, 3)
    assert not can_run_whole([free, bound], 3, 9)
    assert not can_run_whole([taken, free], 3, 9)


def test_a_round_with_a_structured_output_is_not_run_as_a_whole() -> None:
    whole, search = whole_drafter(compile_schema=lambda schema: Future())
    schema = np.frombuffer(b"{}", np.uint8)
    offsets = np.array([0, 2, 2], np.int32)
    drafted = whole.draft(message([[1, 2], [3, 4]], schema_offsets=offsets, schema=schema))
    assert search.calls == 0
    assert [len(tree) for tree in drafted.trees] == [6, 6]


def test_more_width_than_vocabulary_is_drafted_level_by_level() -> None:
    runner = ModelRunner(copy.deepcopy(stock_model("llama", torch.float64)), 320, tiled=True, vocab_size=3)
    search = Counted(runner)
    drafter = Drafter(runner, BlockPool(80, 4), max_tokens=64, catch_up=8, warm_chunk=5, search=search)
    assert len(drafter.draft(message([[1, 2]], width=4, depth=2)).trees[0]) == 7
    assert search.calls == 0
    assert len(drafter.draft(message([[1, 2]], width=3, depth=2)).trees[0]) == 6
    assert search.calls == 1


def test_levels_with_impossible_nodes_do_not_count_as_fed() -> None:
    """What is below them is not where it seems: it is fed again."""
    drafter, _ = whole_drafter()
    drafter.draft(message([[1, 2, 3]], depth=1, width=2))
    (draft,) = drafter._rows.values()
    logprobs = np.array([[[-1, -2]], [[-2, -np.inf]], [[-3, -4]]], np.float32)

    def search(*arguments: Any, **named: Any) -> Beams:
        return Beams(np.arange(6, dtype=np.int32).reshape(3, 1, 2), np.zeros((3, 1, 2), np.int32), logprobs)

    draft.slots.reserve(12)
    expansion = Expansion(np.array([3]), 2)
    run_whole(search, [draft], np.array([3]), expansion, 2, weights=np.ones(1, np.float32), stop_value=0.0)
    assert [len(tree) for tree in expansion.trees()] == [5]
    assert draft.num_fed == 2


def test_without_a_level_to_draft_nothing_is_searched() -> None:
    whole, search = whole_drafter()
    whole.draft(message([[1, 2, 3]], depth=1))
    expansion = Expansion(np.array([0]), 2)
    run_whole(
        search,
        list(whole._rows.values()),
        np.array([0]),
        expansion,
        2,
        weights=np.ones(1, np.float32),
        stop_value=0.0,
    )
    assert search.calls == 1
    assert [len(tree) for tree in expansion.trees()] == [0]
