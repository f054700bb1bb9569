from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from shared.errors import OutOfBlocks
from shared.inference.blocks import BlockPool, SequenceSlots

BLOCK = 4
BLOCKS = 12


class Pool(RuleBasedStateMachine):
    """Sequences that grow, shrink and leave never share, lose or reorder a slot."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(BLOCKS, BLOCK)
        self.sequences: list[SequenceSlots] = []

    @rule()
    def join(self) -> None:
        self.sequences.append(SequenceSlots(self.pool))

    @precondition(lambda self: self.sequences)
    @rule(data=st.data(), num_tokens=st.integers(0, BLOCKS * BLOCK + 5))
    def reserve(self, data: st.DataObject, num_tokens: int) -> None:
        sequence = data.draw(st.sampled_from(self.sequences))
        before = sequence.slots(0, sequence.capacity).tolist()
        missing = -(-num_tokens // BLOCK) - sequence.num_blocks
        if missing > self.pool.num_free:
            with pytest.raises(OutOfBlocks):
                sequence.reserve(num_tokens)
            assert sequence.slots(0, sequence.capacity).tolist() == before
            return
        sequence.reserve(num_tokens)
        assert sequence.slots(0, len(before)).tolist() == before
        assert max(num_tokens, len(before)) <= sequence.capacity < max(num_tokens + BLOCK, len(before) + 1)

    @precondition(lambda self: self.sequences)
    @rule(data=st.data())
    def trim(self, data: st.DataObject) -> None:
        sequence = data.draw(st.sampled_from(self.sequences))
        num_tokens = data.draw(st.integers(0, sequence.capacity))
        kept = sequence.slots(0, num_tokens).tolist()
        sequence.length = sequence.capacity
        sequence.trim(num_tokens)
        assert sequence.length == num_tokens
        assert sequence.slots(0, num_tokens).tolist() == kept

    @precondition(lambda self: self.sequences)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        sequence = self.sequences.pop(data.draw(st.integers(0, len(self.sequences) - 1)))
        sequence.free()
        assert (sequence.length, sequence.capacity) == (0, 0)

    @invariant()
    def every_slot_has_one_owner(self) -> None:
        owned = [slot for sequence in self.sequences for slot in sequence.slots(0, sequence.capacity).tolist()]
        assert len(owned) == len(set(owned))
        assert all(0 <= slot < BLOCKS * BLOCK for slot in owned)
        assert len(owned) == (BLOCKS - self.pool.num_free) * BLOCK

    def teardown(self) -> None:
        for sequence in self.sequences:
            sequence.free()
        assert self.pool.num_free == BLOCKS


TestPool = Pool.TestCase


def longest_run(is_free: list[bool]) -> int:
    runs = "".join("x" if free else " " for free in is_free).split()
    return max((len(run) for run in runs), default=0)


@given(st.lists(st.booleans(), min_size=1, max_size=20), st.data())
def test_blocks_are_consecutive_whenever_a_free_run_is_long_enough(
    is_used: list[bool], data: st.DataObject
) -> None:
    pool = BlockPool(len(is_used), BLOCK)
    everything = pool.allocate(len(is_used))
    pool.free(everything[[not used for used in is_used]])
    is_free = [not used for used in is_used]
    count = data.draw(st.integers(0, pool.num_free))
    blocks = pool.allocate(count)
    assert len(set(blocks.tolist())) == count
    assert all(is_free[block] for block in blocks)
    if count and count <= longest_run(is_free):
        assert np.all(np.diff(blocks) == 1)


def test_sequences_that_grow_in_turn_stay_consecutive() -> None:
    pool = BlockPool(64, BLOCK)
    sequences = [SequenceSlots(pool) for _ in range(4)]
    for num_tokens in range(1, 7 * BLOCK):
        for sequence in sequences:
            sequence.reserve(num_tokens)
    for sequence in sequences:
        assert np.all(np.diff(sequence.slots(0, sequence.capacity)) == 1)


def test_a_block_cannot_be_freed_twice() -> None:
    pool = BlockPool(2)
    blocks = pool.allocate(1)
    with pytest.raises(ValueError, match="twice"):
        pool.free(np.repeat(blocks, 2))
    pool.free(blocks)
    with pytest.raises(ValueError, match="twice"):
        pool.free(blocks)


def test_slots_beyond_the_capacity_are_an_error() -> None:
    sequence = SequenceSlots(BlockPool(2, BLOCK))
    sequence.reserve(3)
    assert len(sequence.slots(0, BLOCK)) == BLOCK
    for start, stop in ((0, BLOCK + 1), (-1, 2), (3, 2)):
        with pytest.raises(IndexError):
            sequence.slots(start, stop)
    with pytest.raises(ValueError, match="read-only"):
        sequence.slots(0, 2)[0] = 9


def test_impossible_pools_are_refused() -> None:
    with pytest.raises(ValueError, match="no pool"):
        BlockPool(1, 0)
