"""The gain of speculation out of two readings of the services' metrics."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.limits.gain import Pair, Served, served
from bench.replay.counters import parse

OFF = Served(
    wall_ms=2400.0,
    tokens=100.0,
    speculative=0.0,
    plain=100.0,
    forward_ms=2000.0,
    step_ms=2300.0,
    commit_ms=100.0,
    rounds=0.0,
    missed=0.0,
    ring_ms=0.0,
    draft_ms=0.0,
    select_ms=0.0,
)
ON = Served(
    wall_ms=1200.0,
    tokens=100.0,
    speculative=30.0,
    plain=10.0,
    forward_ms=860.0,  # 10 x 20 + 30 x 22
    step_ms=1000.0,
    commit_ms=40.0,
    rounds=30.0,
    missed=1.0,
    ring_ms=180.0,
    draft_ms=120.0,
    select_ms=3.0,
)


def test_terms_are_those_of_speculative_steps() -> None:
    pair = Pair(on=ON, off=OFF)
    assert (pair.plain_ms, pair.tree_ms, pair.draft_ms, pair.ring_ms) == (20.0, 22.0, 4.0, 2.0)
    assert pair.tree_tokens == 3.0
    assert pair.predicted == pytest.approx(3.0 * 20.0 / 28.0)
    assert pair.measured == 2.0
    assert pair.reached == pytest.approx(2.0 / (60.0 / 28.0))


def test_tokens_of_a_batch_count_by_those_of_its_plain_steps() -> None:
    pair = Pair(on=replace(ON, tokens=800.0), off=replace(OFF, tokens=800.0))
    assert pair.plain_tokens == 8.0
    assert pair.tree_tokens == 24.0
    assert pair.predicted == pytest.approx(3.0 * 20.0 / 28.0)


def test_the_parts_of_a_step_add_up_to_its_period() -> None:
    for side, period in zip(Pair(on=ON, off=OFF).parts().values(), (30.0, 24.0), strict=True):
        assert side.pop("period") == period
        assert sum(side.values()) == pytest.approx(period)


def test_readings_are_the_services_own_metrics() -> None:
    verifier = parse(
        "# TYPE adaserve_steps_total counter\n"
        'adaserve_steps_total{kind="speculative"} 3.0\n'
        'adaserve_steps_total{kind="bare"} 2.0\n'
        'adaserve_steps_total{kind="prefill"} 1.0\n'
        "# TYPE adaserve_tokens_committed_total counter\n"
        "adaserve_tokens_committed_total 9.0\n"
        "# TYPE adaserve_step_time_seconds histogram\n"
        'adaserve_step_time_seconds_sum{part="forward"} 0.5\n'
        'adaserve_step_time_seconds_sum{part="commit"} 0.25\n'
        'adaserve_step_time_seconds_sum{part="total"} 1.0\n'
        "# TYPE adaserve_ring_time_seconds histogram\n"
        "adaserve_ring_time_seconds_sum 0.125\n"
        "adaserve_ring_time_seconds_count 4.0\n"
    )
    drafter = parse(
        '# TYPE adaserve_step_time_seconds histogram\nadaserve_step_time_seconds_sum{part="draft"} 0.0625\n'
    )
    selector = parse(
        '# TYPE adaserve_step_time_seconds histogram\nadaserve_step_time_seconds_sum{part="select"} 0.5\n'
    )
    found = served({"verifier": verifier, "drafter": drafter, "selector": selector}, wall_ms=7.0)
    assert (found.tokens, found.speculative, found.plain, found.steps) == (9.0, 3.0, 3.0, 6.0)
    assert (found.forward_ms, found.commit_ms, found.step_ms) == (500.0, 250.0, 1000.0)
    assert (found.rounds, found.ring_ms, found.draft_ms, found.select_ms) == (4.0, 125.0, 62.5, 500.0)
    assert (found - found).wall_ms == 0.0
