"""A cell whose replicas come and go (bench/scaling/cell.py), on small made loads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from bench.scaling.cell import Delays, Standing
from bench.scaling.drafters import Drafters
from bench.scaling.loads import made
from bench.scaling.pace import Pace
from bench.scaling.result import Result
from bench.scaling.runs import run
from bench.scaling.sizing import Fixed, Sizes
from bench.scaling.verifier import Model
from bench.simulator.machines import hardware_named
from bench.simulator.systems import system_named
from bench.simulator.world import World
from bench.traces import Trace

PACE = Pace(np.array([1.0, 32.0]), np.array([[8.0, 3.0, 20.0, 600.0], [6.0, 2.5, 30.0, 900.0]]))
MODEL = Model(hardware_named("llama70b-4xa100"), system_named("adaserve"), PACE)
LOAD = made(60.0, 4.0, 1)
DELAYS = Delays(verifier_s=20.0, drafter_s=10.0)


@dataclass(slots=True)
class Planned:
    """So many verifiers and drafters from each time on."""

    plan: Sequence[tuple[float, Sizes]]
    name: str = "planned"
    seen: list[tuple[float, Sizes]] = field(default_factory=list)  # (time, ready)

    def begin(self) -> Sizes:
        return self.plan[0][1]

    def sizes(self, standing: Standing) -> Sizes:
        self.seen.append((standing.now_s, standing.ready))
        return [planned for from_s, planned in self.plan if from_s <= standing.now_s][-1]


def test_every_request_ends_with_all_its_tokens_and_time_never_runs_backwards() -> None:
    for outcome, request in zip(run(LOAD, MODEL, Fixed(2, 2), DELAYS).outcomes, LOAD.requests, strict=True):
        assert outcome.first_ms is not None
        assert outcome.last_ms is not None
        assert request.arrival_ms < outcome.first_ms <= outcome.last_ms
        assert outcome.tokens == request.output_tokens


def test_the_same_seed_gives_the_same_run() -> None:
    assert run(LOAD, MODEL, Fixed(2, 2), DELAYS) == run(LOAD, MODEL, Fixed(2, 2), DELAYS)


def test_blocks_that_are_only_counted_are_as_many_as_real_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Model(replace(MODEL.hardware, kv_tokens=12_000), MODEL.spec, PACE)  # so that some are preempted
    counted = run(LOAD, small, Fixed(2, 2), DELAYS)
    monkeypatch.setattr("bench.scaling.verifier.CountedWorld", World)
    assert run(LOAD, small, Fixed(2, 2), DELAYS) == counted
    assert counted != run(LOAD, MODEL, Fixed(2, 2), DELAYS)


def test_another_seed_draws_otherwise() -> None:
    assert run(LOAD, replace(MODEL, seed=2), Fixed(2, 2), DELAYS) != run(LOAD, MODEL, Fixed(2, 2), DELAYS)


def attained(result: Result) -> float:
    return sum(outcome.attained for outcome in result.outcomes) / len(result.outcomes)


def test_more_verifiers_attain_more_and_cost_more() -> None:
    few, many = (run(LOAD, MODEL, Fixed(size, size), DELAYS) for size in (1, 3))
    assert attained(few) < attained(many)
    assert few.verifier_hours < many.verifier_hours
    assert few.verifier_hours == pytest.approx(few.hours, rel=0.01)
    assert many.verifier_hours == pytest.approx(3 * many.hours, rel=0.01)


def test_a_verifier_costs_from_its_order_on_and_serves_when_it_has_started() -> None:
    planned = Planned([(0.0, (1, 1)), (15.0, (2, 1))])
    result = run(LOAD, MODEL, planned, DELAYS)
    ready = dict(planned.seen)
    assert ready[30.0] == (1, 1)
    assert ready[45.0] == (2, 1)
    paid_s = 3600.0 * (result.verifier_hours - result.hours)
    assert paid_s == pytest.approx(3600.0 * result.hours - 15.0, abs=1.0)


def test_a_verifier_that_leaves_hands_over_what_it_serves_and_costs_no_more() -> None:
    planned = Planned([(0.0, (3, 3)), (30.0, (1, 1))])
    result = run(LOAD, MODEL, planned, DELAYS)
    assert result.num_moved > 0
    for outcome, request in zip(result.outcomes, LOAD.requests, strict=True):
        assert outcome.tokens == request.output_tokens, "a moved request goes on where it was"
    assert 3600.0 * (result.verifier_hours - result.hours) == pytest.approx(2 * 30.0, abs=3.0)


def test_without_drafters_everything_is_served_more_slowly() -> None:
    plain, drafted = (run(LOAD, MODEL, Planned([(0.0, (2, number))]), DELAYS) for number in (0, 2))
    assert mean_tpot_ms(drafted) < 0.7 * mean_tpot_ms(plain)


def mean_tpot_ms(result: Result) -> float:
    return float(np.mean([outcome.tpot_ms or 0.0 for outcome in result.outcomes]))


def test_verifiers_wait_for_a_drafter_that_is_at_another_ones_trees() -> None:
    drafters = Drafters()
    drafters.resize(1)
    assert [drafters.answered_ms(0, 0.0, 30.0), drafters.answered_ms(1, 10.0, 30.0)] == [30.0, 60.0]
    drafters.resize(2)
    assert [drafters.answered_ms(3, 70.0, 30.0), drafters.answered_ms(5, 70.0, 30.0)] == [100.0, 100.0]
    assert (drafters.busy_ms, drafters.num_asked, drafters.waited_ms) == (120.0, 4, 20.0)
    drafters.resize(0)
    assert drafters.busy_ms == 120.0
    assert drafters.answered_ms(0, 70.0, 30.0) == 70.0


def test_a_drafter_that_all_share_makes_them_wait() -> None:
    shared, own = (run(LOAD, MODEL, Fixed(3, number), DELAYS) for number in (1, 3))
    assert mean_tpot_ms(own) < mean_tpot_ms(shared)
    assert shared.drafter_hours < 0.4 * own.drafter_hours


def test_a_made_load_has_its_rate_at_noon_and_little_at_night() -> None:
    load: Trace = made(600.0, 8.0, 3)
    minutes = np.bincount([int(request.arrival_ms // 60e3) for request in load.requests], minlength=10)
    assert minutes[4:6].mean() == pytest.approx(8.0 * 60, rel=0.15)
    assert max(minutes[0], minutes[9]) < 0.4 * minutes[4:6].mean()
