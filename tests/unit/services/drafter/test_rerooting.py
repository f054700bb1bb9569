"""The drafter's KV after any history of accepts, misses, lost and late messages, joins, leaves and preemptions.

A real tiny model in float64: after every round each row's valid KV equals that of a fresh prefill of its context,
and the tree equals that of a drafter which has just met the request.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from services.drafter.drafter import Drafted, Drafter
from services.drafter.guide import paths
from shared import digest
from shared.inference.blocks import BlockPool, SequenceSlots
from shared.inference.plan import build_plan, chain_row
from shared.inference.runner import ModelRunner
from shared.messages import NEED_CONTEXT, NO_ROOM, DraftRequest, request_ids
from shared.tree import ROOT, TokenTree
from tests.effort import examples
from tests.unit.shared.inference.tiny_models import VOCAB, new_model

BLOCKS, BLOCK_SIZE = 80, 4
TOKENS = st.integers(0, VOCAB - 1)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Several threads on tiny matrices only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def new_runner() -> ModelRunner:
    return ModelRunner(new_model("llama", torch.float64), BLOCKS * BLOCK_SIZE)


def new_drafter(runner: ModelRunner, *, is_ahead: bool = False) -> Drafter:
    drafter = Drafter(runner, BlockPool(BLOCKS, BLOCK_SIZE), max_tokens=64, catch_up=8, warm_chunk=5)
    drafter.ahead.is_on = is_ahead
    return drafter


@dataclass
class Believed:
    """What the verifier believes of one request."""

    tokens: list[int]
    epoch: int
    acknowledged: int = 0
    tree: TokenTree | None = None
    tree_at: int = -1
    is_warm: bool = False
    is_absent: bool = False


@dataclass
class Verifier:
    """Builds DraftRequests as the verifier does."""

    requests: dict[int, Believed] = field(default_factory=dict)
    step: int = 0

    def message(self, depth: int, width: int) -> tuple[list[int], DraftRequest]:
        self.step += 1
        present = [number for number, state in self.requests.items() if not state.is_absent]
        rows = [self.requests[number] for number in present]
        parts = [row.tokens[row.acknowledged :] for row in rows]
        size = len(rows)
        return present, DraftRequest(
            verifier="v.1",
            drafter="d.1",
            ring=0,
            step=self.step,
            depth=depth,
            width=width,
            stop_value=0.0,
            prefill_tokens=0,
            prefill_slack_ms=0.0,
            profile="",
            overhead_ms=0.0,
            calibration="",
            request=request_ids([f"{number:032x}" for number in present]),
            epoch=np.array([row.epoch for row in rows], np.uint64),
            base=np.array([row.acknowledged for row in rows], np.int32),
            token_offsets=np.cumsum([0, *map(len, parts)], dtype=np.int32),
            tokens=np.array([token for part in parts for token in part], np.int32),
            digest=np.frombuffer(b"".join(digest.extend(digest.EMPTY, row.tokens) for row in rows), "V8"),
            temperature_bucket=np.zeros(size, np.uint8),
            tpot_ms=np.full(size, np.inf, np.float32),
            elapsed_ms=np.zeros(size, np.float32),
            committed=np.ones(size, np.int32),
            weight=np.ones(size, np.float32),
            max_depth=np.full(size, 8, np.uint8),
            warm=np.array([row.is_warm for row in rows], np.bool_),
            schema_offsets=np.zeros(size + 1, np.int32),
            schema=np.empty(0, np.uint8),
            trace_row=np.empty(0, np.int32),
            traceparent=np.empty(0, "S55"),
        )


class Rerooting(RuleBasedStateMachine):
    runner: Any
    fresh: Any
    num_levels = 0  # that needed no forward pass

    @initialize()
    def start(self) -> None:
        self.drafter = self.new_drafter()
        self.verifier = Verifier()
        self.next_number = 1

    def new_drafter(self) -> Drafter:
        return new_drafter(self.runner, is_ahead=True)

    @rule(prompt=st.lists(TOKENS, min_size=1, max_size=14), is_warm=st.booleans())
    @precondition(lambda self: len(self.verifier.requests) < 4)
    def join(self, prompt: list[int], is_warm: bool) -> None:
        self.verifier.requests[self.next_number] = Believed(list(prompt), self.next_number, is_warm=is_warm)
        self.next_number += 1

    @rule(data=st.data())
    @precondition(lambda self: self.verifier.requests)
    def leave(self, data: st.DataObject) -> None:
        del self.verifier.requests[data.draw(st.sampled_from(sorted(self.verifier.requests)))]

    @rule(depth=st.integers(0, 4), width=st.integers(1, 3), fate=st.sampled_from(["heard", "heard", "lost"]))
    def draft(self, depth: int, width: int, fate: str) -> None:
        present, message = self.verifier.message(depth, width)
        drafted = self.drafter.draft(message)
        Rerooting.num_levels += int(np.maximum(drafted.ahead, 0).sum())
        if fate == "lost":
            return  # the reply never arrives: the verifier keeps its old base
        for row, number in enumerate(present):
            self._learn(self.verifier.requests[number], drafted, row)

    @rule(depth=st.integers(1, 4), width=st.integers(1, 3))
    @precondition(lambda self: self.verifier.requests)
    def unread_message(self, depth: int, width: int) -> None:
        """A DraftRequest that a newer one replaced before it was read."""
        self.verifier.message(depth, width)

    @rule(data=st.data())
    @precondition(lambda self: self.verifier.requests)
    def commit(self, data: st.DataObject) -> None:
        """Every request gains an accepted path of its last tree and a token; after a miss the token alone."""
        for number in sorted(self.verifier.requests):
            self._commit(self.verifier.requests[number], data)

    @rule(data=st.data(), width=st.integers(2, 3))
    @precondition(lambda self: self.verifier.requests)
    def iterate(self, data: st.DataObject, width: int) -> None:
        """Undisturbed iterations: catch up, draft deep, accept, draft again."""
        self.draft(2, width, "heard")
        while self.drafter.has_cold_rows:
            self.drafter.warm()
        for _ in range(2):
            self.draft(4, width, "heard")
            self.draft_ahead(data.draw(st.integers(0, 6)))
            self.commit(data)
        self.draft(data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3)), "heard")

    @rule(data=st.data(), keep=st.integers(1, 20), tokens=st.lists(TOKENS, min_size=1, max_size=4))
    @precondition(lambda self: self.verifier.requests)
    def fork(self, data: st.DataObject, keep: int, tokens: list[int]) -> None:
        """The verifier's context changes behind an old base, as after a reseed."""
        state = self.verifier.requests[data.draw(st.sampled_from(sorted(self.verifier.requests)))]
        keep = min(keep, len(state.tokens))
        state.tokens[keep:] = tokens
        state.acknowledged, state.tree = min(state.acknowledged, keep), None

    def _commit(self, state: Believed, data: st.DataObject) -> None:
        if len(state.tokens) > 24:
            return
        if state.tree is not None and state.tree_at == len(state.tokens):
            if self._come_true(state, data):
                return
            node = ROOT
            for _ in range(data.draw(st.integers(0, 4))):
                children = [i for i, parent in enumerate(state.tree.parents.tolist()) if parent == node]
                if not children:
                    break
                node = data.draw(st.sampled_from(children))
                state.tokens.append(int(state.tree.tokens[node]))
        state.tokens.append(data.draw(TOKENS))
        state.is_warm = False

    def _come_true(self, state: Believed, data: st.DataObject) -> bool:
        """The context grows by what was drafted ahead from, now and then."""
        ahead = [draft for draft in self.drafter._rows.values() if draft.tokens == state.tokens and draft.branches]
        if not ahead or data.draw(st.integers(0, 3)) == 0:
            return False
        state.tokens += data.draw(st.sampled_from(ahead[0].branches)).tokens
        return True

    @rule(data=st.data(), same_epoch=st.booleans())
    @precondition(lambda self: self.verifier.requests)
    def preempt(self, data: st.DataObject, same_epoch: bool) -> None:
        """Absent from one DraftRequest, then from the beginning again; a take-over also changes the epoch."""
        state = self.verifier.requests[data.draw(st.sampled_from(sorted(self.verifier.requests)))]
        state.is_absent = True
        self.drafter.draft(self.verifier.message(2, 2)[1])
        state.is_absent, state.acknowledged, state.tree = False, 0, None
        state.epoch += 0 if same_epoch else 1000

    @rule()
    def warm(self) -> None:
        self.drafter.warm()

    @rule(slices=st.integers(1, 6))
    def draft_ahead(self, slices: int) -> None:
        for _ in range(slices):
            if self.drafter.ahead.has_work:
                self.drafter.ahead.advance()

    @rule()
    def verifier_dies(self) -> None:
        self.drafter.keep(set())
        assert self.drafter.num_rows == 0

    @invariant()
    def kv_is_that_of_a_fresh_prefill(self) -> None:
        for draft in getattr(self, "drafter", NoRows())._rows.values():
            length = draft.slots.length
            assert 0 <= length <= len(draft.tokens)
            if length:
                mine = self.runner.cache.data[:, :, draft.slots.slots(0, length).tolist()]
                torch.testing.assert_close(mine, prefilled(self.fresh, draft.tokens[:length]), rtol=0, atol=1e-9)

    @invariant()
    def nodes_hold_the_kv_of_their_paths(self) -> None:
        for draft in getattr(self, "drafter", NoRows())._rows.values():
            root = draft.slots.length
            for node, path in enumerate(paths(draft.tree, range(draft.num_fed))):
                mine = self.runner.cache.data[:, :, int(draft.slots.slots(root, root + draft.num_fed)[node])]
                expected = prefilled(self.fresh, [*draft.tokens, *path])[:, :, -1]
                torch.testing.assert_close(mine, expected, rtol=0, atol=1e-9)

    @invariant()
    def blocks_belong_to_rows(self) -> None:
        if hasattr(self, "drafter"):
            held = sum(draft.slots.num_blocks for draft in self.drafter._rows.values())
            assert held + self.drafter._pool.num_free == BLOCKS

    def _learn(self, state: Believed, drafted: Drafted, row: int) -> None:
        acknowledged, tree = int(drafted.acknowledged[row]), drafted.trees[row]
        assert acknowledged in (len(state.tokens), NEED_CONTEXT, NO_ROOM)
        state.acknowledged = max(0, acknowledged)
        state.tree, state.tree_at = tree, len(state.tokens)
        if len(tree):
            self._equals_a_newcomers(state, tree)

    def _equals_a_newcomers(self, state: Believed, tree: TokenTree) -> None:
        newcomer = Verifier({1: Believed(list(state.tokens), 1)})
        drafter = new_drafter(self.fresh)
        depth, width = int(tree.depths().max()), int((tree.parents == ROOT).sum())
        drafter.draft(newcomer.message(0, 1)[1])
        newcomer.requests[1].acknowledged = len(state.tokens)
        while drafter.has_cold_rows:
            drafter.warm()
        expected = drafter.draft(newcomer.message(depth, width)[1]).trees[0]
        assert tree.tokens.tolist() == expected.tokens.tolist()
        assert tree.parents.tolist() == expected.parents.tolist()
        np.testing.assert_allclose(tree.logprobs, expected.logprobs, rtol=0, atol=1e-5)


class NoRows:
    _rows: dict[Any, Any] = {}  # noqa: RUF012 - stands in before the first rule has run


def prefilled(runner: ModelRunner, tokens: list[int]) -> torch.Tensor:
    """K and V of a context in one prefill from nothing: [layers, 2, len(tokens), kv_heads, head_dim]."""
    slots = SequenceSlots(BlockPool(BLOCKS, BLOCK_SIZE))
    slots.reserve(len(tokens))
    where = slots.slots(0, len(tokens))
    runner.logits(build_plan([chain_row(where[:0], np.array(tokens, np.int32), where, last_logits=True)]))
    kv: torch.Tensor = runner.cache.data[:, :, where.tolist()].clone()
    return kv


HISTORIES = settings(
    max_examples=examples(40),
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@pytest.mark.timeout(300)
def test_kv_and_trees_survive_any_history() -> None:
    Rerooting.runner, Rerooting.fresh = new_runner(), new_runner()
    run_state_machine_as_test(Rerooting, settings=HISTORIES)
    assert Rerooting.num_levels > 0, "nothing that was drafted ahead came true"
