"""Our decision for one batch (services/selector/cost_aware.py)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.selector.control import FIRST_DEPTH, PolicySettings
from services.selector.policy import decide
from shared.latency import LatencyModel
from shared.messages import CandidateTrees
from shared.tree import EMPTY
from tests.strategies import messages
from tests.unit.services.selector.batches import batch, tree

STEEP = LatencyModel(tokens=(1, 64), ms=(10.0, 1900.0))
STEADY = LatencyModel(tokens=(1, 64), ms=(10.0, 640.0))
FLAT = LatencyModel(tokens=(1, 64), ms=(10.0, 10.1))
KNEE = LatencyModel(tokens=(1, 4, 64), ms=(10.0, 10.3, 70.0))
SETTINGS = PolicySettings()
SURE = tree([-1, 0, 1], [0.9, 0.8, 0.7])
WILD = tree([-1, -1, -1], [0.2, 0.1, 0.05])


@given(messages(CandidateTrees), st.sampled_from([STEEP, FLAT, KNEE]))
def test_any_message_gets_a_decision(message: CandidateTrees, model: LatencyModel) -> None:
    decision = decide(message, model, SETTINGS)
    assert 0 <= decision.depth <= SETTINGS.max_depth
    assert 1 <= decision.width <= SETTINGS.max_width
    assert 0 <= decision.prefill_tokens <= message.prefill_tokens
    assert 0.0 <= decision.predicted_ms < np.inf
    assert 0.0 <= decision.stop_value < np.inf
    assert np.all((decision.weight >= 0.0) & (decision.weight <= 1.0))


def test_budget_follows_costs_from_nothing_to_everything() -> None:
    trees = [SURE, WILD]
    assert decide(batch(trees), STEEP, SETTINGS).selection.num_nodes == 0
    assert decide(batch(trees), FLAT, SETTINGS).selection.num_nodes == 6
    assert decide(batch(trees), KNEE, SETTINGS).selection.offsets.tolist() == [0, 3, 3]


def test_a_request_behind_its_schedule_is_served_before_one_ahead() -> None:
    behind_and_ahead = {
        "tpot_ms": np.array([20.0, 20.0], np.float32),
        "elapsed_ms": np.array([400.0, 400.0], np.float32),
        "committed": np.array([10, 60], np.int32),
    }
    decision = decide(batch([SURE, SURE], **behind_and_ahead), KNEE, SETTINGS)
    first, second = np.diff(decision.selection.offsets).tolist()
    assert first > second
    assert decision.weight.tolist() == [1.0, pytest.approx(SETTINGS.least_weight)]
    alike = decide(batch([SURE, SURE], **behind_and_ahead), KNEE, replace(SETTINGS, slo_aware=False))
    assert alike.weight.tolist() == [1.0, 1.0]


def test_arrears_beyond_rescue_weigh_no_more_than_being_just_behind() -> None:
    hopeless = {
        "tpot_ms": np.array([20.0, 20.0], np.float32),
        "elapsed_ms": np.array([9e6, 300.0], np.float32),
        "committed": np.array([10, 10], np.int32),
    }
    decision = decide(batch([WILD, SURE], **hopeless), KNEE, SETTINGS)
    assert decision.weight.tolist() == [1.0, 1.0]
    assert decision.selection.offsets.tolist()[1] == 0
    assert decision.selection.late.tolist() == [True, True]


def test_rows_still_being_prefilled_weigh_nothing() -> None:
    decision = decide(batch([SURE, SURE], warm=np.array([False, True])), FLAT, SETTINGS)
    assert decision.weight.tolist()[1] == 0.0
    assert decision.budget_used == 1 + decision.selection.num_nodes


def test_depth_falls_to_none_where_drafting_costs_more_than_it_brings() -> None:
    dear = {"level_ms": 50.0, "depth": 1, "draft_ms": 50.0}
    none = decide(batch([WILD], **dear), FLAT, SETTINGS)
    always = decide(batch([WILD], **dear), FLAT, replace(SETTINGS, plain_decoding=False))
    assert (none.depth, always.depth) == (0, 1)
    assert none.stop_value == pytest.approx(none.weight[0] * (1 + 0.35) / (60.05) * 50.0, rel=0.01)


def test_confident_chains_are_drafted_deeper_while_verifying_is_free() -> None:
    sure = tree([-1, 0, 1, 2], [0.95, 0.95 * 0.94, 0.95 * 0.94 * 0.93, 0.95 * 0.94 * 0.93 * 0.92])
    cheap = {"level_ms": 1.0, "depth": 4, "draft_ms": 4.0}
    flat = LatencyModel(tokens=(1, 512), ms=(30.0, 30.0))
    for rows in (1, 8):
        assert decide(batch([sure] * rows, **cheap), flat, SETTINGS).depth == 5


def test_one_good_child_is_enough_to_go_on_drafting() -> None:
    lone = tree([-1, -1, -1], [0.9, 0.015, 0.01])
    cheap = {"level_ms": 0.3, "depth": 1, "draft_ms": 0.5, "overhead_ms": 0.0}
    for fixed, slope in ((5.0, 0.4), (30.0, 0.5), (20.0, 1.0)):
        model = LatencyModel(tokens=(1, 101), ms=(fixed + slope, fixed + 101 * slope))
        decision = decide(batch([lone], **cheap), model, SETTINGS)
        assert decision.selection.num_nodes == 1
        assert decision.depth >= 1


def test_a_ring_that_costs_more_than_it_brings_is_left_for_plain_decoding() -> None:
    model = LatencyModel(tokens=(1, 64), ms=(5.0, 10.0))
    ring = {"level_ms": 0.1, "depth": 1, "overhead_ms": 1.0}
    assert decide(batch([SURE], draft_ms=60.0, **ring), model, SETTINGS).depth == 0
    assert decide(batch([SURE], draft_ms=2.0, **ring), model, SETTINGS).depth >= 1


def test_without_candidates_the_depth_stays_and_new_requests_start_afresh() -> None:
    assert decide(batch([EMPTY], depth=3), FLAT, SETTINGS).depth == 3
    assert decide(batch([EMPTY], depth=0, warm=np.array([True])), FLAT, SETTINGS).depth == FIRST_DEPTH
    assert decide(batch([]), FLAT, SETTINGS).depth == FIRST_DEPTH


def test_fixed_budget_and_depth_by_equation_8_for_ablation() -> None:
    settings = replace(SETTINGS, budget=4, cost_aware_budget=False, cost_aware_depth=False)
    decision = decide(batch([SURE, WILD]), STEEP, settings)
    assert decision.budget_used == 4
    assert (decision.depth, decision.stop_value) == (1, 0.0)


def test_prompts_stretch_an_iteration_by_their_share_at_most() -> None:
    decision = decide(batch([SURE], prefill_tokens=640, draft_ms=0.0), STEADY, SETTINGS)
    assert decision.prefill_tokens == 3  # 10 ms a token, an iteration of 10 ms that may be stretched by 30 ms
    whole = decide(batch([SURE], prefill_tokens=640), FLAT, SETTINGS)
    assert whole.prefill_tokens == 640


def test_a_deadline_for_first_tokens_grants_more_of_the_prompts() -> None:
    pressed = {"prefill_tokens": 40, "draft_ms": 0.0, "prefill_slack_ms": 30.0}
    assert decide(batch([SURE], **pressed), STEADY, SETTINGS).prefill_tokens == 40
    late = {**pressed, "prefill_slack_ms": -1.0}  # nothing can help it, and the others need the time
    assert decide(batch([SURE], **late), STEADY, SETTINGS).prefill_tokens == 3
    calm = replace(SETTINGS, prefill_urgency=False)
    assert decide(batch([SURE], **pressed), STEADY, calm).prefill_tokens == 3


def test_the_next_trees_are_as_wide_as_what_was_bought_and_one_slot_more() -> None:
    assert decide(batch([SURE]), FLAT, SETTINGS).width == 2  # a chain
    assert decide(batch([WILD]), FLAT, SETTINGS).width == SETTINGS.max_width
    assert decide(batch([WILD]), STEEP, SETTINGS).width == 1
    assert decide(batch([SURE]), FLAT, replace(SETTINGS, cost_aware_width=False)).width == SETTINGS.max_width
