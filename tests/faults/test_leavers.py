"""Clients that leave in every phase hold nothing afterwards: no KV, no key without expiry, no file, no memory."""

from __future__ import annotations

import pytest

from tests.effort import heavy
from tests.faults.leavers import GOAL_MS, PHASES, UNCANCELLED_GOAL, campaign


@heavy
@pytest.mark.timeout(180)
def test_clients_that_leave_in_every_phase_hold_nothing_afterwards() -> None:
    result = campaign(num_clients=200, num_warm_up=100)
    left = {name.partition(",")[0] for name in result.notes.counts}
    assert left == set(PHASES)
    assert result.leaks == []
    assert result.notes.num_cancels > 50
    assert result.notes.uncancelled <= UNCANCELLED_GOAL
    assert result.num_freed > 5
    assert result.notes.delay(0.5) + result.freed_ms(0.5) < GOAL_MS
