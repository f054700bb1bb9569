from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import ModelError
from shared.inference.kv import BlockPool, KVCache, SequenceSlots, slots_for_memory
from shared.inference.plan import PlanRow, build_plan, chain_row
from tests.unit.shared.inference.tiny_models import (
    FAMILIES,
    new_runner,
    relative_difference,
    stock_logits,
    stock_model,
)
from tests.unit.shared.inference.token_trees import Tree, tokens, trees

CONFIG = stock_model("llama", torch.float32).config
SLOT_BYTES = 2 * 2 * 2 * 8 * 4  # layers, keys and values, kv heads, head width, float32


@given(
    st.lists(st.integers(0, 19), max_size=20),
    st.lists(st.integers(0, 19), min_size=20, max_size=20),
    st.permutations(range(20)),
    st.sampled_from([1, 64 << 20]),
)
def test_move_reads_everything_before_it_writes(
    chosen: list[int], sources: list[int], places: list[int], at_once: int
) -> None:
    cache = KVCache(CONFIG, 20, torch.float32, torch.device("cpu"))
    cache.data.copy_(torch.arange(cache.data.numel(), dtype=torch.float32).view_as(cache.data))
    before = cache.data.clone()
    size = len(chosen)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shared.inference.kv.MOVED_BYTES", at_once)  # all layers at once, or one by one
        cache.move(np.array(sources[:size], dtype=np.int32), np.array(places[:size], dtype=np.int32))
    expected = before.clone()
    for source, place in zip(sources[:size], places[:size], strict=True):
        expected[:, :, place] = before[:, :, source]
    assert torch.equal(cache.data, expected)


def test_continuing_after_compaction_equals_a_fresh_text() -> None:
    runner = new_runner()

    @settings(deadline=None, max_examples=30)
    @given(st.lists(tokens, max_size=6), trees(max_nodes=10), tokens, st.data())
    def check(context: list[int], nodes: Tree, following: int, data: st.DataObject) -> None:
        start, size = len(context), len(nodes.tokens)
        sequence = SequenceSlots(BlockPool(64, block_size=4))
        sequence.reserve(start + size + 1)
        if context:
            slots = sequence.slots(0, start)
            runner.forward(build_plan([chain_row(slots[:0], np.array(context), slots, last_logits=False)]))
        placed = sequence.slots(start, start + size)
        row = PlanRow(
            context=sequence.slots(0, start),
            tokens=nodes.tokens,
            parents=nodes.parents,
            slots=placed,
            logits=np.zeros(0, dtype=np.int32),
        )
        runner.forward(build_plan([row]))
        path = nodes.path(data.draw(st.integers(0, size - 1)))
        runner.cache.move(placed[path], placed[: len(path)])
        stop = start + len(path)
        row = chain_row(
            sequence.slots(0, stop), np.array([following]), sequence.slots(stop, stop + 1), last_logits=True
        )
        text = [*context, *(int(nodes.tokens[node]) for node in path), following]
        logits = runner.logits(build_plan([row]))[0]
        assert relative_difference(logits, stock_logits("llama", torch.float64, text)) <= 1e-9

    check()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_memory_setting_is_never_exceeded_nor_wasted(family: str) -> None:
    config = stock_model(family, torch.float32).config
    memory = 100_000
    slots = slots_for_memory(config, torch.float32, memory)
    size = KVCache(config, slots, torch.float32, torch.device("cpu")).data.numel() * 4
    assert size <= memory < size + size // slots


def test_memory_for_less_than_one_token_is_refused() -> None:
    assert slots_for_memory(CONFIG, torch.float32, SLOT_BYTES) == 1
    with pytest.raises(ModelError, match=f"one takes {SLOT_BYTES} bytes"):
        slots_for_memory(CONFIG, torch.float32, SLOT_BYTES - 1)
