"""Prefixes that are found hold the KV of just these tokens of this tenant, whatever the pool went through."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from shared.inference.blocks import BlockPool, SequenceSlots
from shared.inference.prefixes import Prefix, PrefixCache
from tests.effort import examples

BLOCK = 4
BLOCKS = 14
TENANTS = st.sampled_from(["acme", "other"])
TOKENS = st.lists(st.integers(0, 1), min_size=1, max_size=5 * BLOCK)


class Sequence:
    """As a verifier's generation: its context, and how much of it was fed."""

    def __init__(self, cache: PrefixCache, pool: BlockPool, tenant: str, tokens: list[int]) -> None:
        self.tenant, self.tokens = tenant, tokens
        self.slots = SequenceSlots(pool)
        self.prefix = cache.new_prefix(tenant)

    def kv(self, count: int) -> list[tuple[str, tuple[int, ...]]]:
        """What the KV of each of the first tokens is a function of, and whose it is."""
        return [(self.tenant, tuple(self.tokens[: index + 1])) for index in range(count)]


class Pool(RuleBasedStateMachine):
    """``kv``: what was last written to each slot."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(BLOCKS, BLOCK)
        self.cache = PrefixCache(self.pool)
        self.kv: dict[int, tuple[str, tuple[int, ...]]] = {}
        self.sequences: list[Sequence] = []
        self.waiting: list[Sequence] = []

    @rule(asked=st.lists(st.tuples(TENANTS, TOKENS), min_size=1, max_size=3))
    def come(self, asked: list[tuple[str, list[int]]]) -> None:
        self.waiting += [Sequence(self.cache, self.pool, tenant, tokens) for tenant, tokens in asked]
        self.admit()

    @rule()
    def admit(self) -> None:
        """Several in a round, as the scheduler does, and one copy for all."""
        admitted = []
        while self.waiting:
            sequence = self.waiting[0]
            if self.pool.blocks_for(len(sequence.tokens) + 1) > self.pool.num_free:
                break
            source = self.cache.find(sequence.prefix, sequence.tokens).tolist()
            assert len(source) < len(sequence.tokens)
            sequence.slots.reserve(len(sequence.tokens) + 1)
            admitted.append((self.waiting.pop(0), source))
        moved = {}
        for sequence, source in admitted:
            assert [self.kv[slot] for slot in source] == sequence.kv(len(source))
            sequence.slots.length = len(source)
            moved |= {
                to: self.kv[slot]
                for slot, to in zip(source, sequence.slots.slots(0, len(source)).tolist(), strict=True)
            }
            self.sequences.append(sequence)
        self.kv |= moved

    @precondition(lambda self: self.sequences)
    @rule(data=st.data(), drawn=st.lists(st.integers(0, 1), max_size=BLOCK), scratch=st.integers(0, BLOCK))
    def step(self, data: st.DataObject, drawn: list[int], scratch: int) -> None:
        """Feed the context, and nodes of a tree behind it that are not accepted; draw tokens."""
        sequence = data.draw(st.sampled_from(self.sequences))
        end = len(sequence.tokens)
        if self.pool.blocks_for(end + scratch) - sequence.slots.num_blocks > self.pool.num_free:
            return
        sequence.slots.reserve(end + scratch)
        start = sequence.slots.length
        written = sequence.slots.slots(start, end).tolist()
        self.kv |= dict(zip(written, sequence.kv(end)[start:], strict=True))
        self.kv |= dict.fromkeys(sequence.slots.slots(end, end + scratch).tolist(), ("nobody", ()))
        sequence.slots.length = end
        self.cache.publish(sequence.prefix, sequence.tokens, end, sequence.slots.blocks)
        sequence.tokens = sequence.tokens + drawn

    @precondition(lambda self: self.sequences)
    @rule(data=st.data(), is_preempted=st.booleans())
    def leave(self, data: st.DataObject, is_preempted: bool) -> None:
        sequence = self.sequences.pop(data.draw(st.integers(0, len(self.sequences) - 1)))
        sequence.slots.free()
        sequence.prefix.num_kept = 0
        if is_preempted:
            self.waiting.insert(0, sequence)

    @precondition(lambda self: self.sequences)
    @rule(data=st.data())
    def drop_scratch(self, data: st.DataObject) -> None:
        sequence = data.draw(st.sampled_from(self.sequences))
        sequence.slots.trim(len(sequence.tokens))

    @invariant()
    def the_live_keep_what_is_theirs(self) -> None:
        for sequence in self.sequences:
            held = sequence.slots.slots(0, sequence.slots.length).tolist()
            assert [self.kv[slot] for slot in held] == sequence.kv(len(held))


TestPool = Pool.TestCase
TestPool.settings = settings(max_examples=examples(150), stateful_step_count=40)


def fed(cache: PrefixCache, pool: BlockPool, tenant: str, tokens: list[int]) -> Sequence:
    sequence = Sequence(cache, pool, tenant, tokens)
    sequence.slots.reserve(len(tokens) + 1)
    sequence.slots.length = len(tokens)
    cache.publish(sequence.prefix, tokens, len(tokens), sequence.slots.blocks)
    return sequence


def test_a_tenant_finds_its_own_blocks_and_nobody_elses() -> None:
    pool = BlockPool(64, BLOCK)
    cache = PrefixCache(pool)
    tokens = list(range(20))
    first = fed(cache, pool, "acme", tokens)
    assert len(cache.find(cache.new_prefix("acme"), tokens)) == 16  # never the last token
    assert len(cache.find(cache.new_prefix("acme"), [*tokens, 1])) == 20
    assert len(cache.find(cache.new_prefix("acme"), [*tokens[:10], 99, *tokens[11:]])) == 8
    assert len(cache.find(cache.new_prefix("acme"), tokens[1:])) == 0
    assert len(cache.find(cache.new_prefix("other"), tokens)) == 0
    first.slots.free()
    assert len(cache.find(cache.new_prefix("acme"), tokens)) == 16, "the block is free, the KV is there"
    assert pool.num_free == 64


def test_a_sequence_that_was_fed_whole_finds_all_but_its_last_block() -> None:
    pool = BlockPool(16, BLOCK)
    cache = PrefixCache(pool)
    sequence = fed(cache, pool, "acme", [1] * 8)
    sequence.slots.free()
    assert len(cache.find(sequence.prefix, sequence.tokens)) == 4


def test_what_was_of_use_last_stays_longest() -> None:
    pool = BlockPool(80, BLOCK)
    cache = PrefixCache(pool)
    wanted = [77] * 16
    fed(cache, pool, "acme", wanted).slots.free()
    for number in range(60):  # far more than the pool holds
        assert len(cache.find(cache.new_prefix("acme"), wanted)) == 12, number
        fed(cache, pool, "acme", [number] * 15).slots.free()
    found = [len(cache.find(cache.new_prefix("acme"), [number] * 15)) > 0 for number in range(60)]
    assert not any(found[:20])
    assert all(found[-3:])


def test_names_of_lost_blocks_are_dropped() -> None:
    pool = BlockPool(8, BLOCK)
    cache = PrefixCache(pool)
    for number in range(50):
        fed(cache, pool, "acme", [number] * 20).slots.free()
    assert len(cache._places) <= 2 * pool.num_blocks + 5


@given(tokens=TOKENS, more=st.lists(st.integers(0, 1), max_size=9))
def test_names_are_of_the_tokens_alone(tokens: list[int], more: list[int]) -> None:
    whole, grown = Prefix("acme", BLOCK), Prefix("acme", BLOCK)
    whole.extend([*tokens, *more], len(tokens) + len(more))
    grown.extend(tokens, len(tokens))
    grown.extend([*tokens, *more], len(tokens) + len(more))
    assert whole.names == grown.names
    assert len(whole.names) == (len(tokens) + len(more)) // BLOCK
    assert len(set(whole.names)) == len(whole.names)
    assert np.unique([len(name) for name in whole.names]).tolist() in ([], [16])
