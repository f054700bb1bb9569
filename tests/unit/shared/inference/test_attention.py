from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.inference.kv import BlockPool, SequenceSlots
from shared.inference.plan import PlanRow, build_plan, chain_row
from shared.inference.runner import ModelRunner
from tests.unit.shared.inference import tiny_models
from tests.unit.shared.inference.tiny_models import new_runner, relative_difference, stock_logits
from tests.unit.shared.inference.token_trees import Tree, tokens, trees

NUM_SEQUENCES = 3
PRECISIONS = {torch.float32: 1e-5, torch.float64: 1e-9}


@dataclass
class Sequence:
    """Tokens with KV in the pool, and what its row of the coming pass is expected to say."""

    slots: SequenceSlots
    tokens: list[int] = field(default_factory=list)
    expected: list[list[int]] = field(default_factory=list)  # the texts whose next-token logits are wanted


def chunk(sequence: Sequence, new: list[int], *, last_logits: bool) -> PlanRow:
    start, stop = len(sequence.tokens), len(sequence.tokens) + len(new)
    sequence.slots.reserve(stop)
    sequence.tokens += new
    sequence.expected = [list(sequence.tokens)] if last_logits else []
    return chain_row(
        sequence.slots.slots(0, start), np.array(new), sequence.slots.slots(start, stop), last_logits=last_logits
    )


def tree(sequence: Sequence, nodes: Tree, wanted: list[int], *, written: int = 0) -> PlanRow:
    start, size = len(sequence.tokens), len(nodes.tokens)
    sequence.slots.reserve(start + size)
    texts = nodes.texts(sequence.tokens)
    sequence.expected = [texts[node] for node in wanted]
    return PlanRow(
        context=sequence.slots.slots(0, start),
        tokens=nodes.tokens,
        parents=nodes.parents,
        slots=sequence.slots.slots(start, start + size),
        logits=np.array(wanted, dtype=np.int32),
        written=written,
    )


@st.composite
def steps(draw: st.DrawFn, num_sequences: int) -> list[list[object]]:
    """Passes over the sequences: each takes a prefill chunk, a tree, or no part."""
    part = st.one_of(
        st.none(), st.tuples(st.lists(tokens, min_size=1, max_size=9), st.booleans()), st.tuples(trees())
    )
    width = {"min_size": num_sequences, "max_size": num_sequences}
    return draw(st.lists(st.lists(part, **width), min_size=1, max_size=4))  # type: ignore[arg-type]


def check_passes(runner: ModelRunner, passes: list[list[object]], family: str, dtype: torch.dtype) -> None:
    """Each pass' logits are those of a stock forward over each text alone."""
    pool = BlockPool(128, block_size=4)  # small blocks of several growing sequences: slots in pieces
    sequences = [Sequence(SequenceSlots(pool)) for _ in range(NUM_SEQUENCES)]
    for parts in passes:
        rows, asked = [], []
        for sequence, part in zip(sequences, parts, strict=True):
            match part:
                case (list() as new, bool() as last_logits):
                    rows.append(chunk(sequence, new, last_logits=last_logits))
                case (Tree() as nodes,):
                    rows.append(tree(sequence, nodes, list(range(len(nodes.tokens)))))
                case _:
                    continue
            asked += sequence.expected
        actual = runner.logits(build_plan(rows))
        assert len(actual) == len(asked)
        for logits, text in zip(actual, asked, strict=True):
            assert relative_difference(logits, stock_logits(family, dtype, text)) <= PRECISIONS[dtype]


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_any_mix_of_chunks_and_trees_equals_stock_forwards(family: str, dtype: torch.dtype) -> None:
    runner = new_runner(family, dtype)

    @settings(deadline=None, max_examples=12)
    @given(steps(NUM_SEQUENCES))
    def check(passes: list[list[object]]) -> None:
        check_passes(runner, passes, family, dtype)

    check()


@pytest.mark.parametrize("family", ["llama", "mistral-window"])
def test_a_tree_fed_level_by_level_equals_one_fed_whole(family: str) -> None:
    runner = new_runner(family)

    @settings(deadline=None, max_examples=20)
    @given(st.lists(tokens, max_size=9), trees(max_nodes=9), st.data())
    def check(context: list[int], nodes: Tree, data: st.DataObject) -> None:
        sequence = Sequence(SequenceSlots(BlockPool(128, block_size=4)))
        if context:
            runner.forward(build_plan([chunk(sequence, context, last_logits=False)]))
        size = len(nodes.tokens)
        written = 0
        while written < size:
            fed = data.draw(st.integers(written + 1, size))
            part = Tree(nodes.tokens[:fed], nodes.parents[:fed])
            row = tree(sequence, part, list(range(written, fed)), written=written)
            for logits, text in zip(runner.logits(build_plan([row])), sequence.expected, strict=True):
                assert relative_difference(logits, stock_logits(family, torch.float64, text)) <= 1e-9
            written = fed

    check()


def scattered_context(runner: ModelRunner, text: list[int]) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    """Writes a text's KV to slots in falling order."""
    places = np.arange(2 * len(text), 0, -2, dtype=np.int32)
    runner.forward(build_plan([chain_row(places[:0], np.array(text), places, last_logits=False)]))
    return places


def test_slots_in_any_order_give_the_same_logits() -> None:
    runner = new_runner()
    text = [3, 1, 4, 1, 5, 9, 2, 6]
    context = scattered_context(runner, text)
    row = chain_row(context, np.array([5, 3]), np.array([301, 300]), last_logits=True)
    actual = runner.logits(build_plan([row]))[0]
    assert relative_difference(actual, stock_logits("llama", torch.float64, [*text, 5, 3])) <= 1e-9


def test_a_row_does_not_notice_the_rows_beside_it() -> None:
    runner = new_runner()
    pool = BlockPool(100, block_size=4)
    generator = np.random.default_rng(0)
    crowd = [Sequence(SequenceSlots(pool)) for _ in range(12)]
    texts = [generator.integers(0, tiny_models.VOCAB, 3 + 2 * i).tolist() for i in range(len(crowd))]
    together = runner.logits(
        build_plan([chunk(s, text, last_logits=True) for s, text in zip(crowd, texts, strict=True)])
    )
    for logits, text in zip(together, texts, strict=True):
        alone = Sequence(SequenceSlots(pool))
        single = runner.logits(build_plan([chunk(alone, text, last_logits=True)]))[0]
        assert relative_difference(logits, single) <= 1e-12
        alone.slots.free()
