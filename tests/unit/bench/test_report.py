"""The report's statistics, by properties over any outcomes."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.report import (
    Estimate,
    Outcome,
    Report,
    attainment,
    duration_ms,
    failures,
    goodput,
    goodput_tokens,
    paired_difference,
    percentiles,
    student_t95,
    tokens_per_verification,
)

times = st.floats(0, 1e6)


@st.composite
def outcome_lists(draw: st.DrawFn, min_size: int = 0) -> list[Outcome]:
    """Any outcomes: unanswered, best effort, failed and finished ones."""
    return draw(st.lists(outcomes(), min_size=min_size, max_size=12))


@st.composite
def outcomes(draw: st.DrawFn) -> Outcome:
    arrival, wait, spent = draw(times), draw(times), draw(times)
    tokens = draw(st.integers(0, 300))
    return Outcome(
        category=draw(st.sampled_from(["coding", "chatbot", "batch"])),
        arrival_ms=arrival,
        first_ms=arrival + wait if tokens else None,
        last_ms=arrival + wait + spent if tokens else None,
        tokens=tokens,
        target_ms=draw(st.floats(0.1, 1e5) | st.just(math.inf)),
        ttft_target_ms=draw(st.floats(1, 1e6) | st.just(math.inf)),
        e2e_target_ms=draw(st.just(math.inf) | st.floats(1, 1e6)),
        num_steps=draw(st.integers(0, 50)),
        num_accepted=draw(st.integers(0, 50)),
        failure=draw(st.sampled_from([None, None, "429 queue_full", "timeout"])),
    )


def done(tokens: int = 11, *, tpot: float = 10.0, ttft: float = 100.0, **fields: object) -> Outcome:
    """One that arrives at 0 and finishes at that pace."""
    base = Outcome(
        category="coding",
        arrival_ms=0.0,
        first_ms=ttft,
        last_ms=ttft + tpot * (tokens - 1),
        tokens=tokens,
        target_ms=math.inf,
    )
    return replace(base, **fields)  # type: ignore[arg-type]


@given(outcome_lists())
def test_attainment_is_a_share_of_those_with_a_target(run: list[Outcome]) -> None:
    with_target = [one for one in run if one.has_target]
    share = attainment(run)
    assert (share is None) == (not with_target)
    if share is not None:
        assert share == pytest.approx(100 * sum(one.attained for one in run) / len(with_target))
        assert 0 <= share <= 100


@given(outcome_lists(min_size=1))
def test_goodput_never_exceeds_the_tokens_and_fails_with_its_requests(run: list[Outcome]) -> None:
    assert goodput_tokens(run) <= sum(one.tokens for one in run)
    assert goodput_tokens([replace(one, failure="gone") for one in run]) == 0
    rate = goodput(run)
    if rate is not None:
        assert rate * duration_ms(run) / 1_000 == pytest.approx(goodput_tokens(run))


@given(outcomes(), st.floats(1, 10))
def test_a_looser_target_never_loses_a_request(one: Outcome, factor: float) -> None:
    looser = replace(one, target_ms=one.target_ms * factor, ttft_target_ms=one.ttft_target_ms * factor)
    assert looser.attained >= (one.attained and looser.has_target)


@given(outcome_lists(min_size=1), st.floats(0, 1e5))
def test_all_figures_are_independent_of_when_the_run_began(run: list[Outcome], shift: float) -> None:
    assert duration_ms(run) >= 0
    moved = [replace(one, arrival_ms=one.arrival_ms + shift, first_ms=None, last_ms=None) for one in run]
    still = [replace(one, first_ms=None, last_ms=None) for one in run]
    assert duration_ms(moved) == pytest.approx(duration_ms(still), abs=1e-6)


@given(outcome_lists(min_size=1), outcome_lists(min_size=1))
def test_the_report_is_json_in_the_agreed_shape(first: list[Outcome], second: list[Outcome]) -> None:
    report = Report(trace="t", hardware="h", system="s", runs={1: first, 2: second}).json()
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert list(report) == [
        "trace",
        "hardware",
        "system",
        "seeds",
        "attainment",
        "goodput_tokens_per_s",
        "tpot_ms",
        "ttft_ms",
        "tokens_per_verification",
        "time_share",
    ]
    assert report["seeds"] == [1, 2]
    assert set(report["attainment"]) == {"mean", "ci95", "by_category"}
    assert set(report["time_share"].values()) == {None}


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20))
def test_an_estimate_is_the_mean_and_an_interval_that_needs_two_runs(values: list[float]) -> None:
    estimate = Estimate.of(values)
    assert estimate.mean == pytest.approx(statistics.fmean(values))
    assert (estimate.ci95 is None) == (len(values) == 1)
    assert paired_difference(values, values).mean == 0


def test_student_t_is_that_of_the_tables() -> None:
    expected = {1: 12.706, 4: 2.776, 10: 2.228, 11: 2.201, 15: 2.131, 30: 2.042, 120: 1.980, 100_000: 1.960}
    assert {df: student_t95(df) for df in expected} == pytest.approx(expected, abs=6e-4)
    assert all(student_t95(df) > student_t95(df + 1) for df in range(1, 60))


def test_the_interval_of_known_numbers() -> None:
    estimate = Estimate.of([90.0, 92.0, 94.0, None])
    assert estimate.mean == 92.0
    assert estimate.ci95 == pytest.approx(4.30265 * 2 / math.sqrt(3))
    assert Estimate.of([None]) == Estimate(None, None)


@pytest.mark.parametrize(
    ("outcome", "attained"),
    [
        (done(target_ms=10.0), True),
        (done(target_ms=9.99), False),
        (done(target_ms=10.0, ttft_target_ms=99.0), False),
        (done(ttft_target_ms=100.0), True),
        (done(e2e_target_ms=200.0), True),
        (done(e2e_target_ms=199.0), False),
        (done(), False),  # best effort: nothing to attain
        (done(1, target_ms=0.1), True),  # a single token has no gap
        (done(target_ms=10.0, failure="timeout"), False),
        (done(target_ms=10.0, tokens=0, first_ms=None, last_ms=None, ttft_target_ms=1e9), False),
    ],
)
def test_attained_means_finished_and_every_target_kept(outcome: Outcome, attained: bool) -> None:
    assert outcome.attained is attained


def test_a_small_run_by_hand() -> None:
    run = [
        done(11, tpot=10, target_ms=12.0, num_steps=4, num_accepted=6),
        done(11, tpot=20, target_ms=12.0, category="chatbot", num_steps=1, num_accepted=0),
        done(11, tpot=30, ttft=700.0, category="batch"),
        done(target_ms=1.0, tokens=0, first_ms=None, last_ms=None, failure="429 queue_full", arrival_ms=500.0),
    ]
    report = Report(trace="t", hardware="h", system="s", runs={7: run}, time_share={"speculation": 0.25}).json()
    assert report["attainment"] == {
        "mean": 33.333,
        "ci95": None,
        "by_category": {"batch": None, "chatbot": 0.0, "coding": 50.0},
    }
    assert report["goodput_tokens_per_s"] == {"mean": 11.0, "ci95": None}  # 11 tokens in 1000 ms
    assert report["tpot_ms"] == {"p50": 20.0, "p99": 29.8}
    assert report["ttft_ms"]["p50"] == 100.0
    assert report["tokens_per_verification"] == 2.2
    assert report["time_share"] == {"scheduling": None, "speculation": 0.25, "verification": None}
    assert failures(run) == {"429 queue_full": 1}


def test_nothing_comes_to_nothing() -> None:
    assert duration_ms([]) == 0.0
    assert goodput([]) is None
    assert percentiles([None]) == {"p50": None, "p99": None}
    assert tokens_per_verification([]) is None
    report = Report(trace="t", hardware="h", system="s", runs={}).json()
    assert report["attainment"] == {"mean": None, "ci95": None, "by_category": {}}
