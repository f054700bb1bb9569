"""The decision for one batch (services/selector/policy.py)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.selector.control import PolicySettings
from services.selector.policy import decide
from shared.latency import LatencyModel
from shared.messages import SLO_PHASE, CandidateTrees
from shared.tree import EMPTY
from tests.strategies import messages
from tests.unit.services.selector.batches import batch, tree

TABLE = LatencyModel(tokens=(1, 8, 64), ms=(10.0, 12.0, 26.0))
SETTINGS = PolicySettings(budget=8)
BUSHY = tree([-1, -1, 0, 0, 2, 2], [0.7, 0.2, 0.42, 0.21, 0.294, 0.126])
FLAT = tree([-1, -1, 0, 1, 2, 3], [0.5, 0.4, 0.35, 0.24, 0.14, 0.14])


@given(messages(CandidateTrees), st.none() | st.just(TABLE), st.integers(1, 20))
def test_any_message_gets_a_decision_within_the_budget(
    message: CandidateTrees, table: LatencyModel | None, budget: int
) -> None:
    decision = decide(message, table, PolicySettings(budget=budget))
    running = decision.budget_used - decision.selection.num_nodes
    assert decision.budget_used <= max(budget, running)
    assert running <= len(message.request)
    assert 1 <= decision.depth <= 8
    assert 1 <= decision.width <= 3
    assert 0 <= decision.prefill_tokens <= message.prefill_tokens
    assert 0.0 <= decision.predicted_ms < np.inf
    assert decision.weight.tolist() == [1.0] * len(message.request)
    assert decision.stop_value == 0.0


def test_target_decides_the_slo_phase() -> None:
    """T(8) = 12 ms, 4 ms of drafting and 1 ms of overhead: t_spec is 17 ms, so 27 ms after the first token."""
    message = batch(
        [BUSHY, FLAT],
        elapsed_ms=np.array([10.0, 10.0], np.float32),
        tpot_ms=np.array([27 / 1.8, np.inf], np.float32),
        committed=np.array([1, 1], np.int32),
        overhead_ms=1.0,
    )
    decision = decide(message, TABLE, SETTINGS)
    assert decision.predicted_ms == 17.0
    assert decision.selection.phase.tolist().count(SLO_PHASE) == 2  # 1 + 0.7 < 1.8 <= 1 + 0.7 + 0.42
    assert decision.budget_used == 8


def test_most_nodes_of_one_row_in_the_slo_phase_follow_the_budget_per_row() -> None:
    message = batch([BUSHY, FLAT], tpot_ms=np.array([1.0, np.inf], np.float32))
    decision = decide(message, TABLE, replace(SETTINGS, slo_nodes_factor=0.5))
    assert (decision.selection.phase == SLO_PHASE).sum() == 2  # ceil(0.5 * 8 / 2)


def test_more_rows_than_budget_leave_bare_roots_and_the_least_speculation() -> None:
    decision = decide(batch([BUSHY] * 9), TABLE, SETTINGS)
    assert (decision.budget_used, decision.selection.num_nodes) == (9, 0)
    assert (decision.depth, decision.width) == (1, 3)


def test_rows_without_a_tree_pay_for_their_root_unless_still_prefilling() -> None:
    message = batch([BUSHY, EMPTY, EMPTY], warm=np.array([False, False, True]))
    decision = decide(message, TABLE, SETTINGS)
    assert decision.budget_used == 8
    assert decision.selection.offsets.tolist() == [0, 6, 6, 6]


def test_without_a_latency_model_there_are_no_nodes() -> None:
    decision = decide(batch([BUSHY, FLAT], overhead_ms=33.0, prefill_tokens=70), None, SETTINGS)
    assert decision.selection.offsets.tolist() == [0, 0, 0]
    assert (decision.depth, decision.width, decision.budget_used) == (1, 1, 2)
    assert (decision.predicted_ms, decision.prefill_tokens) == (4.0 + 33.0, 70)


@pytest.mark.parametrize(("factor", "granted"), [(2.0, 16), (0.6, 5), (100.0, 70)])
def test_prefill_is_granted_in_chunks_and_counted_in_the_prediction(factor: float, granted: int) -> None:
    decision = decide(batch([FLAT], prefill_tokens=70), TABLE, replace(SETTINGS, prefill_factor=factor))
    assert decision.prefill_tokens == granted
    assert decision.predicted_ms == pytest.approx(4.0 + TABLE.predict_ms(8 + granted))


def test_context_and_rows_count_in_the_prediction() -> None:
    model = replace(TABLE, context_ms=10.0, row_ms=2.0)
    decision = decide(batch([FLAT] * 3, overhead_ms=1.0), model, SETTINGS)
    assert decision.predicted_ms == pytest.approx(4.0 + 12.0 + 10.0 * 3 * 50 / 1000 + 2.0 * 3 + 1.0)


def test_empty_batch_asks_for_the_deepest_speculation() -> None:
    decision = decide(batch([]), TABLE, PolicySettings(budget=64))
    assert (decision.depth, decision.width, decision.budget_used) == (8, 3, 0)
