"""Admission, chunks, preemption: pure, on a pool without tensors."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.verifier.generation import Generation
from services.verifier.scheduler import Scheduler
from shared.inference.blocks import BlockPool
from tests.requests import generation

BLOCK = 4


def scheduler(pool: BlockPool, **limits: int) -> Scheduler[Generation]:
    return Scheduler(pool, **{"max_running": 4, "prefill_chunk": 10, **limits})


def admitted(pool: BlockPool, *lengths: int, **limits: int) -> tuple[Scheduler[Generation], list[Generation]]:
    """A scheduler whose requests have prompts of these lengths and are admitted."""
    plan = scheduler(pool, **limits)
    made = [generation(pool, number, prompt=[1] * length) for number, length in enumerate(lengths, 1)]
    for one in made:
        plan.add(one)
    plan.admit()
    return plan, made


def test_a_prompt_is_admitted_whole_or_not_at_all() -> None:
    pool = BlockPool(5, BLOCK)
    plan, (first, second) = admitted(pool, 10, 10)
    assert plan.running == [first]
    assert list(plan.waiting) == [second]
    assert second.slots.capacity == 0
    assert plan.num_free_places == 0  # somebody waits: nobody else is taken


def test_the_batch_is_bounded() -> None:
    plan, made = admitted(BlockPool(64, BLOCK), 1, 1, 1, max_running=2)
    assert plan.running == made[:2]


def test_chunks_go_to_the_oldest_first_within_the_grant() -> None:
    plan, (first, second, third) = admitted(BlockPool(64, BLOCK), 7, 8, 9)
    assert plan.plan_prefill() == [(first, 7), (second, 3)]
    assert plan.plan_prefill(granted=9) == plan.plan_prefill()  # below the least, which is above the chunk here
    first.slots.length = 6
    assert plan.decoding == [first]
    assert plan.plan_prefill() == [(second, 8), (third, 2)]
    assert plan.num_prefill_tokens == 10  # of 17, what a chunk holds


def test_trees_take_only_what_is_free() -> None:
    pool = BlockPool(4, BLOCK)
    plan, (first, second) = admitted(pool, 7, 7)
    for one in (first, second):
        one.slots.length = 6
    granted = plan.make_room([first, second], lambda _: 100)
    assert granted == {first: 1, second: 1}
    assert plan.num_preempted == 0


def test_scratch_is_given_back_before_anybody_is_preempted() -> None:
    pool = BlockPool(6, BLOCK)
    plan, (first, second) = admitted(pool, 3, 3)
    for one in (first, second):
        one.slots.length = 2
    plan.make_room([first], lambda _: 100)
    assert pool.num_free == 0
    second.extend([1, 1, 1])
    second.slots.length = 5
    assert plan.make_room([second], lambda _: 0) == {second: 0}
    assert plan.num_preempted == 0


def test_the_youngest_gives_way_and_waits_in_front() -> None:
    pool = BlockPool(4, BLOCK)
    plan, (first, second) = admitted(pool, 7, 7)
    first.extend([1, 1])
    first.slots.length = 8
    second.slots.length = 6
    assert plan.make_room([first, second], lambda _: 0) == {first: 0}
    assert list(plan.waiting) == [second]
    assert second.slots.length == 0
    assert second.num_pending == 7


def test_the_least_slack_is_that_of_the_most_urgent_first_token() -> None:
    pool = BlockPool(64, BLOCK)
    plan = scheduler(pool)
    assert plan.prefill_slack_ms(0.0) == math.inf
    for number, ttft in ((1, 500.0), (2, math.inf), (3, 200.0)):
        made = generation(pool, number, prompt=[1, 2, 3], ttft_ms=ttft)
        made.enqueued_ms = 1000.0
        plan.add(made)
    assert plan.prefill_slack_ms(1150.0) == pytest.approx(50.0)


@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=6),
    grown=st.lists(st.integers(0, 9), min_size=6, max_size=6),
    wanted=st.lists(st.integers(0, 30), min_size=6, max_size=6),
    num_blocks=st.integers(4, 16),
)
def test_room_is_never_promised_twice(
    lengths: list[int], grown: list[int], wanted: list[int], num_blocks: int
) -> None:
    pool = BlockPool(num_blocks, BLOCK)
    plan, made = admitted(pool, *lengths, max_running=6)
    for one, more in zip(made, grown, strict=False):
        if one in plan.running and one.position + more <= num_blocks * BLOCK:
            one.extend([1] * more)
            one.slots.length = min(one.slots.capacity, one.position - 1)
    sizes = dict(zip(made, wanted, strict=False))
    decoding = plan.decoding
    granted = plan.make_room(decoding, lambda one: sizes[one])
    for one, nodes in granted.items():
        assert nodes <= sizes[one]
        assert one.slots.capacity >= one.position + nodes
    slots = [slot for one in plan.running for slot in one.slots.slots(0, one.slots.capacity).tolist()]
    assert len(slots) == len(set(slots))
    assert set(granted) == {one for one in decoding if one in plan.running}
    for one in made:
        plan.remove(one)
    assert pool.num_free == num_blocks


def test_no_grant_stops_a_prompt() -> None:
    pool = BlockPool(64, BLOCK)
    plan, (first, second) = admitted(pool, 50, 9, prefill_chunk=100)
    assert plan.plan_prefill(granted=0) == [(first, 16)]
    assert plan.plan_prefill(granted=55) == [(first, 50), (second, 5)]
