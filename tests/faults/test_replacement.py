"""Every replica of a cell is replaced while streams are open: none is cut, repeated or wrong."""

from __future__ import annotations

import pytest

from tests.effort import heavy
from tests.faults.replacement import Plan, campaign


@heavy
@pytest.mark.timeout(240)
def test_replacing_every_replica_truncates_no_stream() -> None:
    result = campaign(Plan(measure_s=1.5, rounds=1, drain_s=0, pause_s=0.0, pair=False))
    assert len(result.exits) == 8
    assert set(result.exits.values()) == {0}
    assert result.before.damage + result.during.damage == []
    assert result.during.outcomes["whole"] >= 10
    assert result.during.outcomes["moved"] >= 1
