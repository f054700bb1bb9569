"""Generated workloads follow the laws their module states, from a seed alone."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.trace_files import write_trace
from bench.traces import Trace
from bench.workloads import BATCH, CHATBOT, CODING, PRESETS, SUMMARIZATION, load_trace, with_drawn_outputs
from shared.errors import TraceError


def share(trace: Trace, category: str) -> float:
    return sum(one.category == category for one in trace.requests) / len(trace.requests)


@given(name=st.sampled_from(sorted(PRESETS)), seed=st.integers(0, 2**32), rps=st.floats(0.1, 5))
@settings(max_examples=40)
def test_a_preset_is_valid_sorted_and_the_same_for_the_same_seed(name: str, seed: int, rps: float) -> None:
    text = f"{name}:rps={rps},seconds=20"
    trace = load_trace(text, seed)
    assert trace == load_trace(text, seed)
    assert trace.name == text
    assert trace.duration_ms <= 20_000
    assert len({one.prompt_id for one in trace.requests}) == len(trace.requests)


def test_another_seed_is_another_trace() -> None:
    assert load_trace("paper", 1) != load_trace("paper", 2)


def test_the_paper_mix_has_its_shares_rate_targets_and_lengths() -> None:
    trace = load_trace("paper:rps=10", 7)
    assert len(trace.requests) == 3600
    assert share(trace, "coding") == pytest.approx(0.6, abs=0.03)
    assert share(trace, "chatbot") == pytest.approx(0.2, abs=0.03)
    assert {(one.category, one.tpot_ratio, one.tpot_ms) for one in trace.requests} == {
        ("coding", 1.2, None),
        ("chatbot", None, 50.0),
        ("summarization", None, 150.0),
    }
    outputs = [one.output_tokens for one in trace.requests]
    assert statistics.mean(outputs) == pytest.approx(207, abs=4)
    assert outputs.count(256) / len(outputs) == pytest.approx(0.55, abs=0.03)
    assert min(outputs) >= 50
    for category in (CODING, CHATBOT, SUMMARIZATION):
        prompts = [one.prompt_tokens for one in trace.requests if one.category == category.name]
        assert statistics.median(prompts) == pytest.approx(category.median, rel=0.1)
        assert category.shortest <= min(prompts) <= max(prompts) <= category.longest


def test_arrivals_ramp_up() -> None:
    trace = load_trace("paper:rps=10", 7)
    counts = [sum(start <= one.arrival_ms < start + 60_000 for one in trace.requests) for start in (0, 300_000)]
    assert counts[0] < 0.7 * counts[1]


def test_urgent_share_scale_and_strictness_change_what_they_say() -> None:
    assert share(load_trace("urgent:share=0.9", 1), "coding") == pytest.approx(0.9, abs=0.03)
    assert {one.tpot_ratio for one in load_trace("scale:scale=0.6").requests} == {0.6, None}
    assert set(load_trace("strict").categories) == {"coding", "chatbot"}
    relaxed = load_trace("relaxed")
    assert share(relaxed, BATCH.name) == pytest.approx(0.3, abs=0.05)
    ratios = {one.category: one.tpot_ratio for one in load_trace("relative:coding=3").requests}
    assert ratios == {"coding": 3.0, "chatbot": 1.6, "summarization": 4.8}


def test_fluctuating_peaks_one_category_after_the_other() -> None:
    trace = load_trace("fluctuating", 3)
    middles = {
        category: statistics.mean(one.arrival_ms for one in trace.requests if one.category == category) / 60_000
        for category in trace.categories
    }
    assert middles == pytest.approx({"chatbot": 1.5, "coding": 3.0, "summarization": 4.5}, abs=0.2)
    near = sum(170_000 <= one.arrival_ms < 190_000 and one.category == "coding" for one in trace.requests)
    assert near / 20 == pytest.approx(4.0, rel=0.35)


def test_lengths_are_multiplied() -> None:
    short = load_trace("paper:lengths=0.1")
    assert max(one.output_tokens for one in short.requests) == 26


def test_drawn_outputs_replace_the_cap() -> None:
    trace = with_drawn_outputs(load_trace("paper"), seed=5)
    assert trace == with_drawn_outputs(trace, seed=5)
    assert {one.output_tokens == 256 for one in trace.requests} == {True, False}


def test_a_path_is_read_and_a_preset_wins_over_a_file_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    trace = load_trace("paper:seconds=5", 1)
    write_trace(trace, "paper")
    assert load_trace("./paper").requests == trace.requests
    assert len(load_trace("paper").requests) == 1440


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("papr:rps=1", "no such file, and no preset; presets are paper, urgent, scale"),
        ("paper:speed=1", r"no parameter 'speed'; there are rps \(0.01 to 10000\), seconds \(1 to 86400\)"),
        ("paper:rps", "rps='' must be a number from 0.01 to 10000"),
        ("paper:rps=nan", "rps='nan' must be a number"),
        ("paper:rps=-1", "rps='-1' must be a number from"),
        ("paper:rps=1,rps=2", "rps is given twice"),
        ("urgent:share=1.5", "share='1.5' must be a number from 0 to 1"),
        ("paper:rps=10000,seconds=86400", "rps × seconds must be at most 1000000"),
    ],
)
def test_an_unknown_preset_or_parameter_is_answered_with_what_exists(text: str, words: str) -> None:
    with pytest.raises(TraceError, match=words):
        load_trace(text)


def test_every_preset_takes_a_target_for_the_first_token() -> None:
    assert {request.ttft_ms for request in load_trace("strict:seconds=5,ttft=300").requests} == {300.0}
    assert {request.ttft_ms for request in load_trace("strict:seconds=5").requests} == {None}
