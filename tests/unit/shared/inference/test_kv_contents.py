"""Whatever happens to a sequence, its KV equals that of a fresh prefill of its text."""

from __future__ import annotations

from dataclasses import dataclass

import hypothesis.strategies as st
import numpy as np
import torch
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from shared.errors import OutOfBlocks
from shared.inference.kv import BlockPool, SequenceSlots
from shared.inference.plan import PlanRow, build_plan, chain_row
from tests.effort import examples
from tests.unit.shared.inference.tiny_models import new_runner
from tests.unit.shared.inference.token_trees import Tree, tokens, trees

BLOCK = 4
BLOCKS = 20
CONTEXT_LIMIT = BLOCK * BLOCKS

RUNNER = new_runner(num_slots=BLOCK * BLOCKS)
FRESH = new_runner(num_slots=CONTEXT_LIMIT)


@dataclass(eq=False)
class Sequence:
    text: list[int]  # context; KV covers text[:slots.length], the rest is pending
    slots: SequenceSlots

    @property
    def pending(self) -> list[int]:
        return self.text[self.slots.length :]


class KVContents(RuleBasedStateMachine):
    """A verifier's dealings with the pool: prefill, trees, accepted paths, misses, preemption, joins, leaves."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(BLOCKS, BLOCK)
        self.sequences: list[Sequence] = []

    @initialize(prompts=st.lists(st.lists(tokens, min_size=1, max_size=9), min_size=2, max_size=3))
    def start(self, prompts: list[list[int]]) -> None:
        for prompt in prompts:
            self.join(prompt)

    @rule(prompt=st.lists(tokens, min_size=1, max_size=12))
    def joins(self, prompt: list[int]) -> None:
        self.join(prompt)

    def join(self, prompt: list[int]) -> None:
        sequence = Sequence(list(prompt), SequenceSlots(self.pool))
        try:
            sequence.slots.reserve(len(prompt))
        except OutOfBlocks:
            return
        self.sequences.append(sequence)

    @precondition(lambda self: self.sequences)
    @rule(data=st.data())
    def feed(self, data: st.DataObject) -> None:
        """One pass: every chosen sequence takes a prefill chunk, or a tree of which a path is kept."""
        rows, outcomes = [], []
        for sequence in self.sequences:
            kind = data.draw(st.sampled_from(["absent", "chunk", "tree", "tree", "miss"]))
            if kind == "absent" or not self.has_room(sequence, 6):
                continue
            nodes = data.draw(trees(max_nodes=6)) if kind != "chunk" else None
            row = self.tree_row(sequence, nodes) if nodes else self.chunk_row(sequence, data)
            if row is not None:
                rows.append(row)
                outcomes.append((sequence, row, nodes if kind == "tree" else None))
        RUNNER.forward(build_plan(rows))
        for sequence, row, nodes in outcomes:
            self.settle(sequence, row, nodes, data)

    def has_room(self, sequence: Sequence, nodes: int) -> bool:
        try:
            sequence.slots.reserve(len(sequence.text) + nodes)
        except OutOfBlocks:
            return False
        return True

    def chunk_row(self, sequence: Sequence, data: st.DataObject) -> PlanRow | None:
        if not sequence.pending:
            return None
        start = sequence.slots.length
        stop = start + data.draw(st.integers(1, len(sequence.pending)))
        slots = sequence.slots
        return chain_row(
            slots.slots(0, start), np.array(sequence.text[start:stop]), slots.slots(start, stop), last_logits=True
        )

    def tree_row(self, sequence: Sequence, nodes: Tree) -> PlanRow:
        """Pending tokens as a chain, the tree below its last."""
        pending = sequence.pending
        start, size = sequence.slots.length, len(pending) + len(nodes.tokens)
        below = np.where(nodes.parents < 0, len(pending) - 1, nodes.parents + len(pending))
        return PlanRow(
            context=sequence.slots.slots(0, start),
            tokens=np.concatenate([np.array(pending, dtype=np.int32), nodes.tokens]),
            parents=np.concatenate([np.arange(-1, len(pending) - 1), below]),
            slots=sequence.slots.slots(start, start + size),
            logits=np.arange(size),
        )

    def settle(self, sequence: Sequence, row: PlanRow, nodes: Tree | None, data: st.DataObject) -> None:
        """Keeps the pending tokens that were fed, an accepted path of the tree, and a bonus token unfed."""
        num_pending = min(len(sequence.pending), len(row.tokens))
        path: list[int] = []
        if nodes is not None:
            path = nodes.path(data.draw(st.integers(-1, len(nodes.tokens) - 1)))
            accepted = row.slots[[num_pending + node for node in path]]
            RUNNER.cache.move(accepted, row.slots[num_pending : num_pending + len(path)])
            sequence.text += [int(nodes.tokens[node]) for node in path] + [data.draw(tokens)]
        sequence.slots.length += num_pending + len(path)
        if data.draw(st.booleans()):
            sequence.slots.trim(len(sequence.text))

    @precondition(lambda self: self.sequences)
    @rule(data=st.data())
    def is_preempted(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.sequences)).slots.free()

    @precondition(lambda self: self.sequences)
    @rule(data=st.data())
    def is_truncated(self, data: st.DataObject) -> None:
        """As a drafter does when the verifier went another way."""
        sequence = data.draw(st.sampled_from(self.sequences))
        length = data.draw(st.integers(1, len(sequence.text)))
        del sequence.text[length:]
        sequence.slots.trim(length)

    @precondition(lambda self: self.sequences)
    @rule(data=st.data())
    def leaves(self, data: st.DataObject) -> None:
        sequence = data.draw(st.sampled_from(self.sequences))
        sequence.slots.free()
        self.sequences.remove(sequence)

    @invariant()
    def kv_equals_a_fresh_prefill(self) -> None:
        for sequence in self.sequences:
            length = sequence.slots.length
            if not length:
                continue
            fresh = np.arange(length)
            text = np.array(sequence.text[:length])
            FRESH.forward(build_plan([chain_row(fresh[:0], text, fresh, last_logits=False)]))
            actual = RUNNER.cache.data[:, :, torch.from_numpy(sequence.slots.slots(0, length).astype(np.int64))]
            torch.testing.assert_close(actual, FRESH.cache.data[:, :, :length], rtol=1e-9, atol=1e-9)

    @invariant()
    def all_blocks_are_accounted_for(self) -> None:
        assert sum(s.slots.num_blocks for s in self.sequences) == BLOCKS - self.pool.num_free


TestKVContents = KVContents.TestCase
TestKVContents.settings = settings(deadline=None, max_examples=examples(40), stateful_step_count=20)
