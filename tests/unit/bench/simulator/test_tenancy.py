"""Tenants of a trace's requests (bench/simulator/tenancy.py)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.report import Outcome
from bench.simulator.tenancy import assign, class_standings
from bench.traces import Trace, TraceRequest
from bench.workloads import load_trace
from shared.errors import PolicyError
from shared.policy import Policy

POLICY = Policy.model_validate(
    {
        "classes": {
            "coding": {"tpot": "1.3x", "ttft_ms": 400},
            "chatbot": {"tpot_ms": 40, "objective": 0.5},
            "summarization": {},
        },
        "tenants": {
            "acme": {"classes": ["coding", "chatbot"], "default": "coding"},
            "globex": {"classes": ["chatbot", "summarization"], "default": "chatbot"},
        },
    }
)
SHARES = {"acme": 1.0, "globex": 1.0}
TRACE = load_trace("paper:rps=10,seconds=20,ttft=900", 1)


@given(seed=st.integers(0, 2**31), shares=st.tuples(st.floats(1e-3, 1e6), st.floats(1e-3, 1e6)))
def test_every_request_has_a_tenant_that_may_use_its_class(seed: int, shares: tuple[float, float]) -> None:
    assigned = assign(TRACE, POLICY, dict(zip(SHARES, shares, strict=True)), seed)
    assert len(assigned.tenants) == len(TRACE.requests)
    for tenant, request in zip(assigned.tenants, assigned.trace.requests, strict=True):
        assert request.category in POLICY.tenants[tenant].classes
    assert assign(TRACE, POLICY, dict(zip(SHARES, shares, strict=True)), seed) == assigned


def test_targets_are_the_classes_and_nothing_else_changes() -> None:
    assigned = assign(TRACE, POLICY, SHARES, 1).trace
    for before, after in zip(TRACE.requests, assigned.requests, strict=True):
        promise = POLICY.classes[before.category]
        assert (after.tpot_ratio, after.tpot_ms, after.ttft_ms) == (promise.tpot, promise.tpot_ms, promise.ttft_ms)
        targets = {"tpot_ratio": None, "tpot_ms": None, "ttft_ms": None}
        assert replace(after, **targets) == replace(before, **targets)


def test_shares_are_relative_and_split_only_what_tenants_share() -> None:
    trace = load_trace("paper:rps=100,seconds=100", 1)
    assigned = assign(trace, POLICY, {"acme": 3.0, "globex": 9.0}, 1)
    pairs = list(zip(assigned.tenants, (request.category for request in trace.requests), strict=True))
    assert {tenant for tenant, category in pairs if category == "coding"} == {"acme"}
    chats = [tenant for tenant, category in pairs if category == "chatbot"]
    assert chats.count("acme") / len(chats) == pytest.approx(0.25, abs=0.03)


def test_another_seed_is_another_assignment() -> None:
    assert assign(TRACE, POLICY, SHARES, 1).tenants != assign(TRACE, POLICY, SHARES, 2).tenants


def test_a_category_of_no_tenant_is_named_with_what_there_is() -> None:
    request = TraceRequest(arrival_ms=0.0, category="vision", prompt_tokens=1, output_tokens=1)
    with pytest.raises(PolicyError, match=r"'odd'.*'vision'.*acme: coding, chatbot; globex: chatbot, summ"):
        assign(Trace(name="odd", requests=(request,)), POLICY, SHARES, 1)


def outcome(category: str, *, met: bool) -> Outcome:
    return Outcome(
        category=category, arrival_ms=0.0, first_ms=1.0, last_ms=2.0, tokens=2, target_ms=5.0 if met else 0.5
    )


def test_standings_are_of_each_tenants_classes_against_the_objective() -> None:
    requests = tuple(
        TraceRequest(arrival_ms=0.0, category=name, prompt_tokens=1, output_tokens=2)
        for name in ("coding", "coding", "chatbot")
    )
    assigned = assign(Trace(name="t", requests=requests), POLICY, {"acme": 1e6, "globex": 1e-6}, 1)
    run = assigned.served(
        [outcome("coding", met=True), outcome("coding", met=False), outcome("chatbot", met=True)]
    )
    coding, chatbot, *others = class_standings(POLICY, [run, run])
    assert coding.json() == {
        "requests": 4,
        "attainment": {"mean": 50.0, "ci95": 0.0},
        "objective": None,
        "met": None,
    }
    assert (chatbot.tenant, chatbot.requests, chatbot.objective, chatbot.is_met) == ("acme", 2, 50.0, True)
    assert [(one.tenant, one.name, one.requests, one.is_met) for one in others] == [
        ("globex", "chatbot", 0, None),
        ("globex", "summarization", 0, None),
    ]


def test_an_objective_is_missed_below_it() -> None:
    requests = (TraceRequest(arrival_ms=0.0, category="chatbot", prompt_tokens=1, output_tokens=2),)
    assigned = assign(Trace(name="t", requests=requests), POLICY, {"acme": 1e6, "globex": 1e-6}, 1)
    standings = list(class_standings(POLICY, [assigned.served([outcome("chatbot", met=False)])]))
    assert standings[1].is_met is False
