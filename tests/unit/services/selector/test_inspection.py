"""What the selector tells of inspected rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.selector.control import PolicySettings
from services.selector.inspection import trees
from services.selector.policy import decide
from shared.calibration import Calibration
from shared.inspection import MAX_CANDIDATES, InspectedTree
from shared.labels import LabelCounts
from shared.latency import LatencyModel
from shared.messages import SLO_PHASE, CandidateTrees
from tests.strategies import messages
from tests.unit.services.selector.batches import batch, tree

TABLE = LatencyModel(tokens=(1, 8, 64), ms=(10.0, 12.0, 26.0))
BUSHY = tree([-1, -1, 0, 0, 2, 2], [0.7, 0.2, 0.42, 0.21, 0.294, 0.126])


def told(
    message: CandidateTrees, budget: int | None = 5, calibration: Calibration | None = None
) -> list[tuple[str, InspectedTree]]:
    decision = decide(message, TABLE, PolicySettings(policy="paper", budget=budget), calibration)
    return trees(message, decision, calibration, select_ms=0.5)


def rows(*numbers: int) -> Any:
    return np.array(numbers, np.int32)


def test_all_candidates_of_an_inspected_row_are_told_with_what_was_chosen_and_why() -> None:
    message = batch(
        [BUSHY, BUSHY],
        tpot_ms=np.array([np.inf, 27 / 1.6], np.float32),
        elapsed_ms=np.full(2, 10.0, np.float32),
        committed=np.array([1, 1], np.int32),
        inspect_row=rows(1),
    )
    [(request, tree_told)] = told(message, budget=5)
    assert request == message.request[1].tobytes().hex()
    assert tree_told.tokens.tolist() == BUSHY.tokens.tolist()
    assert tree_told.parents.tolist() == BUSHY.parents.tolist()
    assert tree_told.probability == pytest.approx(np.exp(BUSHY.logprobs))
    decision = decide(message, TABLE, PolicySettings(policy="paper", budget=5))
    start, end = decision.selection.offsets[1:].tolist()
    assert (tree_told.chosen + len(BUSHY)).tolist() == decision.selection.nodes[start:end].tolist()
    assert (tree_told.phase[0], tree_told.budget, tree_told.rows) == (SLO_PHASE, 5, 2)
    assert (tree_told.step, tree_told.position, tree_told.depth, tree_told.width) == (7, 50, 4, 3)
    assert tree_told.need == pytest.approx((10.0 + decision.predicted_ms) / (27 / 1.6))


def test_without_a_target_there_is_no_need_and_with_a_calibration_its_probabilities() -> None:
    counts = LabelCounts.none()
    counts.labels[0], counts.accepted[0] = 100.0, 1.0
    [(_, tree_told)] = told(batch([BUSHY], inspect_row=rows(0)), calibration=Calibration.fit(counts))
    assert tree_told.need is None
    assert tree_told.probability.max() < 0.3


def test_rows_that_are_prefilled_or_not_inspected_are_not_told() -> None:
    assert told(batch([BUSHY])) == []
    assert told(batch([BUSHY], warm=np.array([True]), inspect_row=rows(0))) == []


def test_of_a_huge_tree_the_chosen_nodes_are_kept() -> None:
    """The likeliest path is at the end of the level order."""
    wide = MAX_CANDIDATES + 40
    parents = [-1] * wide + [wide - 1, wide]
    probabilities = [0.001] * (wide - 1) + [0.9, 0.8, 0.7]
    [(_, tree_told)] = told(batch([tree(parents, probabilities)], inspect_row=rows(0)), budget=4)
    assert len(tree_told.tokens) == MAX_CANDIDATES
    assert tree_told.tokens[tree_told.chosen].tolist() == [100 + wide - 1, 100 + wide, 100 + wide + 1]
    assert tree_told.parents[tree_told.chosen].tolist() == [-1, *tree_told.chosen[:2].tolist()]


@given(messages(CandidateTrees), st.booleans())
def test_any_hint_is_told_or_left_out(message: CandidateTrees, has_budget: bool) -> None:
    found = told(message, budget=8 if has_budget else None)
    assert len(found) <= len(message.inspect_row)
