"""Where an iteration's time goes (bench/breakdown.py)."""

from __future__ import annotations

import pytest

from bench.breakdown import percent, spent
from bench.replay.counters import parse

VERIFIER = """# TYPE adaserve_step_time_seconds histogram
adaserve_step_time_seconds_sum{part="forward"} 3.0
adaserve_step_time_seconds_sum{part="total"} 4.0
# TYPE adaserve_ring_time_seconds histogram
adaserve_ring_time_seconds_sum 2.0
"""
DRAFTER = """# TYPE adaserve_step_time_seconds histogram
adaserve_step_time_seconds_sum{part="draft"} 1.25
"""
SELECTOR = DRAFTER.replace("draft", "select").replace("1.25", "0.25")


def test_the_bus_is_what_the_ring_took_beyond_drafting_and_selection() -> None:
    services = {"verifier": parse(VERIFIER), "drafter": parse(DRAFTER), "selector": parse(SELECTOR)}
    parts = spent(services)
    assert parts == {"drafting": 1.25, "selection": 0.25, "bus": 0.5, "forward": 3.0, "verifier": 1.0}
    assert sum(percent(parts).values()) == pytest.approx(100.0)
    assert percent(parts)["forward"] == pytest.approx(50.0)


def test_nothing_done_has_no_percent() -> None:
    assert set(percent({"forward": 0.0, "bus": 0.0}).values()) == {0.0}
