"""What a selection's spans say is what was decided."""

from __future__ import annotations

import math

import numpy as np
import pytest

from services.selector import described
from services.selector.control import PolicySettings
from services.selector.decision import Decision
from services.selector.policy import decide
from shared import signals
from shared.latency import LatencyModel
from shared.messages import CandidateTrees
from tests.unit.services.selector.batches import batch, tree

TABLE = LatencyModel(tokens=(1, 8, 64), ms=(10.0, 12.0, 26.0))
BUSHY = tree([-1, -1, 0, 0, 2, 2], [0.7, 0.2, 0.42, 0.21, 0.294, 0.126])
FLAT = tree([-1, -1, 0, 1, 2, 3], [0.5, 0.4, 0.35, 0.24, 0.14, 0.14])


def decided(policy: str = "paper") -> tuple[CandidateTrees, Decision]:
    """Two rows of which the first has a target; t_spec = 4 + 12 + 1."""
    message = batch(
        [BUSHY, FLAT],
        elapsed_ms=np.full(2, 10.0, np.float32),
        tpot_ms=np.array([27 / 1.6, math.inf], np.float32),
        committed=np.array([1, 1], np.int32),
        overhead_ms=1.0,
    )
    return message, decide(message, TABLE, PolicySettings(policy=policy, budget=8))  # type: ignore[arg-type]


def test_a_rows_span_has_its_need_and_its_share() -> None:
    told = described.row(*decided(), 0, 2.5)
    assert told[signals.SLO_NEED] == pytest.approx(1.6)
    assert told[signals.SLO_LATE] is False
    phases = told[signals.NUM_SLO_NODES], told[signals.NUM_THROUGHPUT_NODES]
    assert (*phases, told[signals.NUM_SELECTED], told[signals.NUM_NODES]) == (1, 2, 3, 6)
    assert told[signals.DEPTH] == 3
    assert (told[signals.BUDGET], told[signals.BUDGET_SHARE]) == (8, 0.5)
    assert (told[signals.PREDICTED_MS], told[signals.HOP_WAIT_MS]) == (17.0, 2.5)


@pytest.mark.parametrize("policy", ["paper", "adaserve"])
def test_a_row_without_a_target_has_no_need(policy: str) -> None:
    message, decision = decided(policy)
    assert signals.SLO_NEED in described.row(message, decision, 0, 0.0)
    assert signals.SLO_NEED not in described.row(message, decision, 1, 0.0)


def test_a_batchs_span_sums_its_rows_up() -> None:
    message, decision = decided()
    rows = [described.row(message, decision, index, 0.0) for index in range(2)]
    told = described.batch(message, decision, 1.0)
    for name in (signals.NUM_NODES, signals.NUM_SELECTED, signals.NUM_SLO_NODES):
        assert told[name] == sum(float(row[name]) for row in rows)  # type: ignore[arg-type]
    assert sum(float(row[signals.BUDGET_SHARE]) for row in rows) == pytest.approx(1.0)  # type: ignore[arg-type]
