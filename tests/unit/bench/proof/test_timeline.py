"""Draft quality over time, and where its plots' marks are."""

from __future__ import annotations

import pytest

from bench.proof import chart
from bench.proof.intervals import Interval
from bench.proof.sides import Compared
from bench.proof.timeline import (
    NOT_TOLD,
    Band,
    Line,
    acceptance,
    arms_of,
    bands,
    calibration,
    kept_promises,
    windowed,
)
from bench.replay.counters import parse
from bench.replay.recording import Event, ServerSample
from bench.replay.series import SERIES, Readings
from tests.unit.bench.proof.recordings import run


def sample(at_s: float, **values: float) -> ServerSample:
    return ServerSample(at_s=at_s, values=values)


COUNTED = [
    sample(0, selected=0, accepted=0, expected=0, realised=0, calibration_error=0.01),
    sample(2, selected=100, accepted=60, expected=50, realised=60, calibration_error=0.02),
    sample(4, selected=104, accepted=61, expected=51, realised=61),
]


def test_ratios_are_those_of_each_window_and_few_tokens_leave_a_gap() -> None:
    assert acceptance(COUNTED).points == [(1.0, 60.0), (3.0, None)]
    assert kept_promises(COUNTED).points == [(1.0, 1.2), (3.0, None)]
    assert calibration(COUNTED).points == [(0.0, 0.01), (2.0, 0.02), (4.0, None)]


def test_bands_tell_when_nobody_speculated_and_why() -> None:
    found = bands(
        [
            sample(0, speculative=1),
            sample(2, speculative=0),
            sample(4, speculative=1),
            sample(5, speculative=1, switch_acceptance_collapse=1, switch_no_drafter=0),
            sample(6, speculative=0, switch_acceptance_collapse=1, switch_no_drafter=0),
            sample(7, speculative=0, switch_acceptance_collapse=2),
            sample(8, speculative=1, switch_acceptance_collapse=2),
            sample(9, speculative=0, switch_acceptance_collapse=2, switch_no_drafter=1),
        ]
    )
    assert found == [Band(2, 4, NOT_TOLD), Band(6, 8, "acceptance_collapse"), Band(9, 9, "no_drafter")]
    assert bands([]) == []


def test_windows_keep_the_last_sample() -> None:
    samples = [sample(float(at)) for at in range(10)]
    assert [one.at_s for one in windowed(samples, 3)] == [0, 3, 6, 9]
    assert [one.at_s for one in windowed(samples, 4)] == [0, 2, 4, 6, 8, 9]
    assert windowed([], 4) == []


def test_arms_are_compared_where_both_have_finished_requests() -> None:
    one = run([True])
    end = sample(9, treatment_met=90, treatment_missed=10, control_met=70, control_missed=30)
    arms, apart = arms_of([one.model_copy(update={"samples": [sample(0), end]})])
    assert [(arm.name, arm.met, arm.total) for arm in arms] == [("treatment", 90, 100), ("control", 70, 100)]
    assert apart.value == pytest.approx(20.0)
    assert apart.is_above
    assert arms_of([one]) == ([], Interval())


# ---- readings ----------------------------------------------------------------------------------------------
def text(steps: int, error: float) -> str:
    return (
        "# TYPE adaserve_steps_total counter\n"
        f'adaserve_steps_total{{kind="bare"}} {steps}\n'
        "# TYPE adaserve_calibration_error gauge\n"
        f'adaserve_calibration_error{{kind="calibrated"}} {error}\n'
    )


def test_counters_begin_at_the_first_reading_and_survive_a_service_that_starts_anew() -> None:
    readings = Readings()
    assert readings.take({"a": parse(text(10, 0.1))}) == {"steps_bare": 0, "calibration_error": 0.1}
    found = readings.take({"a": parse(text(15, 0.2)), "b": parse(text(100, 0.4))})
    assert found == {"steps_bare": 5, "calibration_error": pytest.approx(0.3)}
    assert readings.take({"a": parse(text(2, 0.2)), "b": parse(text(101, 0.2))})["steps_bare"] == 8


def test_a_counter_that_appears_later_has_counted_from_nothing() -> None:
    readings = Readings()
    readings.take({"a": parse("")})
    assert readings.take({"a": parse(text(3, 0.1))})["steps_bare"] == 3


def test_series_are_asked_for_in_promql() -> None:
    assert SERIES["steps_bare"].selector == 'adaserve_steps_total{kind="bare"}'
    assert SERIES["target_s"].selector == 'adaserve_step_time_seconds_sum{part="total"}'


# ---- charts ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 100, [0, 25, 50, 75, 100]),
        (0, 1.2, [0, 0.5, 1.0, 1.5]),
        (-3, 7, [-5, -2.5, 0, 2.5, 5, 7.5]),
        (0, 0, None),
    ],
)
def test_ticks_are_round_and_hold_the_range(low: float, high: float, expected: list[float] | None) -> None:
    found = chart.ticks(low, high)
    assert found[0] <= low
    assert found[-1] >= high
    assert expected is None or found == expected


def test_times_are_told_in_fitting_units() -> None:
    assert chart.clock_ticks(60.0)[-1] == (60.0, "60 s")
    assert chart.clock_ticks(600.0)[-1] == (600.0, "10 min")
    assert chart.clock_ticks(86_400.0)[1] == (14_400.0, "4 h")
    assert chart.clock_ticks(7 * 86_400.0)[-1][1].endswith(" d")


def test_lines_break_at_gaps_and_lone_points_are_dots() -> None:
    plot = chart.over_time(
        [Line("a", [(0, 0.0), (1, 50.0), (2, None), (3, 200.0)])],
        [Band(1, 2, "why")],
        [Event(at_s=1.0, what="done")],
        [2.0],
        ceiling=100.0,
        is_fixed=True,
    )
    assert plot is not None
    assert plot.lines[0].path.count("M") == 2
    assert plot.lines[0].path.endswith(f"{chart.TOP}.0h0")  # beyond the scale: at its edge
    assert plot.bands[0].start < plot.bands[0].end
    assert plot.words == "a: 0 at first, 200 at last, 0 to 200"
    assert chart.over_time([Line("a", [(0, None)])], ceiling=1.0) is None


def test_rows_put_values_on_one_scale() -> None:
    one = Compared(ours=Interval(50.0, 40.0, 60.0), our_runs=[45.0, None, 55.0])
    plot = chart.in_rows([("a", one, 90.0)], high=100.0)
    (row,) = plot.rows
    assert row.theirs is None
    assert row.ours is not None
    assert row.ours.low < row.ours.at < row.ours.high < (row.objective or 0)
    assert plot.words == "a: 50 with, nothing without"
    below, above = row.ours.runs
    assert row.ours.low < below < row.ours.at < above < row.ours.high
    alone = chart.in_rows([("c" * 40, Compared(ours=Interval(1.0), our_runs=[1.0]), None)])
    assert (plot.has_runs, alone.has_runs) == (True, False)
    (long,) = alone.rows
    assert long.words == "c" * 15 + "…"
