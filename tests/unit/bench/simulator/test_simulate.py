"""Whole runs of the simulator (bench/simulator), on small workloads."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bench.simulator.hardware import LLAMA_70B, PROFILES, latency_model
from bench.simulator.machines import hardware_named
from bench.simulator.paper_figures import ATTAINMENT
from bench.simulator.simulate import Run, output_lengths, report, simulate
from bench.simulator.systems import SYSTEMS, system_named
from bench.workloads import load_trace
from shared.errors import ConfigurationError

TRACE = load_trace("paper:rps=3.0,seconds=20", 1)


def run(system: str, seed: int = 1) -> Run:
    return simulate(TRACE, LLAMA_70B, system_named(system), seed)


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_request_ends_with_all_its_tokens_and_time_never_runs_backwards(system: str) -> None:
    done = run(system)
    assert len(done.outcomes) == len(TRACE.requests)
    for outcome, request in zip(done.outcomes, TRACE.requests, strict=True):
        assert outcome.first_ms is not None
        assert outcome.last_ms is not None
        assert request.arrival_ms < outcome.first_ms <= outcome.last_ms
        assert 1 <= outcome.tokens <= request.output_tokens
    assert done.duration_ms >= max(outcome.last_ms or 0.0 for outcome in done.outcomes)


def test_the_same_seed_gives_the_same_run_and_another_seed_another() -> None:
    assert run("adaserve").outcomes == run("adaserve").outcomes
    assert run("adaserve").outcomes != run("adaserve", seed=2).outcomes


def test_all_systems_meet_the_same_texts() -> None:
    lengths = [outcome.tokens for outcome in run("vllm").outcomes]
    for system in ("adaserve", "vllm-spec-8", "vtc"):
        assert [outcome.tokens for outcome in run(system).outcomes] == lengths


def test_time_is_spent_where_it_should_be() -> None:
    plain, drafted = run("sarathi").spent, run("adaserve").spent
    assert plain.speculation == plain.drafting == 0.0
    assert 0.0 < drafted.speculation < drafted.verification
    share = report("t", "h", "s", {1: run("adaserve")}).time_share
    assert share is not None
    assert sum(value or 0.0 for value in share.values()) == pytest.approx(1.0)


def test_speculation_commits_more_than_one_token_per_verification() -> None:
    told = report("t", "h", "s", {1: run("adaserve"), 2: run("adaserve", seed=2)}).json()
    assert told["tokens_per_verification"] > 2.0
    assert told["seeds"] == [1, 2]
    assert report("t", "h", "s", {1: run("sarathi")}).json()["tokens_per_verification"] is None


def test_a_drafter_that_costs_more_than_it_brings_is_not_used() -> None:
    slow = LLAMA_70B.with_draft_step(10_000.0)
    done = simulate(TRACE.head(requests=4), slow, system_named("adaserve"), 1)
    num_tokens = sum(outcome.tokens for outcome in done.outcomes)
    assert sum(outcome.num_accepted for outcome in done.outcomes) < 0.2 * num_tokens


def test_output_lengths_reach_their_caps_half_of_the_time() -> None:
    lengths = output_lengths(np.full(4000, 256), 3)
    assert 0.5 < (lengths == 256).mean() < 0.6
    assert 200 < lengths.mean() < 215


def test_output_lengths_that_differ_are_real_ones() -> None:
    real = np.array([256, 12, 70])
    assert output_lengths(real, 3).tolist() == real.tolist()


@pytest.mark.parametrize("hardware", PROFILES.values(), ids=lambda hardware: hardware.name)
def test_a_measured_model_predicts_its_engine(hardware: object) -> None:
    for engine in (hardware.vllm, hardware.sarathi, hardware.adaserve):  # type: ignore[attr-defined]
        model = latency_model(engine)
        for tokens, context, rows in ((1, 0, 1), (64, 20_000, 64), (300, 9_000, 20), (1500, 0, 4)):
            predicted = model.predict_ms(tokens, context_tokens=context, rows=rows)
            assert predicted == pytest.approx(engine.forward_ms(tokens, context, rows), rel=0.05)


def test_settings_of_our_systems_are_part_of_their_name() -> None:
    assert (
        system_named("adaserve-paper:budget=256,slo_aware=false").name
        == "adaserve-paper:budget=256,slo_aware=false"
    )
    for text, words in (
        ("vllmx", "vllm-spec-4"),
        ("vllm:budget=3", "has no settings"),
        ("adaserve:bugdet=3", "bugdet"),
        ("adaserve:budget=many", "must be a number"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            system_named(text)
    with pytest.raises(ConfigurationError, match="llama70b-4xa100"):
        hardware_named("a100")


def test_the_papers_figures_name_systems_and_machines_that_exist() -> None:
    for machines in ATTAINMENT.values():
        for hardware, systems in machines.items():
            assert hardware in PROFILES
            assert systems.keys() <= SYSTEMS.keys()
            assert all(0.0 <= value <= 100.0 and math.isfinite(value) for value in systems.values())
