"""Go and no-go for each phase of an introduction."""

from __future__ import annotations

from typing import Any

import pytest

from bench import introduction
from bench.introduction import Criterion, Phase, Replayed, RolloutNow, Simulated, Verdict
from services.gateway.description import examples

OBJECTIVES = {"coding": 0.99, "chatbot": 0.95}


def met(phase: Phase) -> dict[str, bool | None]:
    return {criterion.what: criterion.is_met for criterion in phase.criteria}


def figure(mean: float | None, ci95: float | None = 1.0) -> dict[str, float | None]:
    return {"mean": mean, "ci95": ci95}


def simulated(**changes: Any) -> Simulated:
    one = {
        "system": "adaserve",
        "currency": "EUR",
        "tenants": {
            "acme": {
                "classes": {
                    "coding": {"attainment": figure(99.5), "objective": 99.0, "met": True},
                    "batch": {"attainment": figure(None, None), "objective": None, "met": None},
                },
                "payback_days": 30.0,
            }
        },
        "total": {"gain_per_hour": figure(20.0, 3.0)},
    }
    return Simulated.model_validate(one | changes)


def with_class(**changes: Any) -> Simulated:
    found = simulated().model_dump()
    found["tenants"]["acme"]["classes"]["coding"] |= changes
    return Simulated.model_validate(found)


def replayed(goodput: Any = None, coding: float | None = 99.0, equal: Any = True, **failures: int) -> Replayed:
    by_category = {"coding": coding, "chatbot": 100.0, "summarization": None}
    return Replayed.model_validate(
        {
            "attainment": {**figure(99.0), "by_category": by_category},
            "goodput_tokens_per_s": goodput or figure(100.0, 4.0),
            "replay": {"requests": 100, "failures": failures, "tally": [{"equal": True}, {"equal": equal}]},
        }
    )


PLAIN = replayed(figure(90.0, 4.0), coding=20.0)


def rollout(treated: Any = (97, 100), others: Any = None, **changes: Any) -> RolloutNow:
    arms = {
        "treatment": {"chatbot": dict(zip(("attained", "total"), treated, strict=True))} if treated else {},
        "control": {"chatbot": dict(zip(("attained", "total"), others, strict=True))} if others else {},
    }
    return RolloutNow.model_validate({**examples.ROLLOUT, "arms": arms, **changes})


def halt(step: int = 2, halted: str = "class chatbot: 80 % of 100 attained", **changes: Any) -> dict[str, Any]:
    stage = {"id": examples.ROLLOUT["id"], "step": step, "since_ms": 1, "halted": ""} | changes
    return {"what": "rollout.step", "before": stage, "after": {**stage, "step": step - 1, "halted": halted}}


@pytest.mark.parametrize(
    ("found", "verdict"),
    [([], "NOT YET"), ([True], "GO"), ([True, None], "NOT YET"), ([True, None, False], "NO-GO")],
)
def test_a_phase_is_over_when_every_figure_is_there_and_good(found: list[bool | None], verdict: str) -> None:
    phase = Phase(1, "on paper", tuple(Criterion("a", "b", "c", is_met) for is_met in found))
    assert phase.verdict == verdict
    assert phase.json()["verdict"] == verdict
    assert introduction.whole([phase, Phase(0, "x", (Criterion("a", "b", "c", True),))]) == verdict


def test_promises_want_an_objective_and_no_warning() -> None:
    assert introduction.promises(OBJECTIVES, []).verdict is Verdict.GO
    assert met(introduction.promises({}, ["line 3: unused"])) == {
        "the policy's warnings": False,
        "classes with an objective": False,
    }


@pytest.mark.parametrize(
    ("given", "what", "expected"),
    [
        (with_class(met=False), "acme: attainment of coding", False),
        (with_class(attainment=figure(None, None), met=False), "acme: attainment of coding", None),  # nobody asked
        (simulated(total={"gain_per_hour": figure(3.0, 3.0)}), "gain of all tenants", False),
        (simulated(total={"gain_per_hour": figure(3.0, None)}), "gain of all tenants", None),  # one seed
        (simulated(total={}), "gain of all tenants", None),  # no prices
        (simulated(tenants={"acme": {"classes": {}, "payback_days": "never"}}), "acme: payback", False),
        (simulated(tenants={"acme": {"classes": {}, "payback_days": 90.5}}), "acme: payback", False),
    ],
)
def test_on_paper(given: Simulated, what: str, expected: bool | None) -> None:
    good = introduction.on_paper(simulated(), max_payback_days=90)
    assert (good.verdict, met(good)[what]) == (Verdict.GO, True)
    assert len(good.criteria) == 3, "a class without an objective is not judged"
    assert met(introduction.on_paper(given, max_payback_days=90))[what] is expected


@pytest.mark.parametrize(
    ("with_", "without", "what", "expected"),
    [
        (replayed(coding=98.9), PLAIN, "attainment of coding", False),
        (replayed(coding=None), PLAIN, "attainment of coding", None),
        (replayed(figure(98.0, 4.0)), PLAIN, "goodput", False),  # just not clear
        (replayed(figure(98.1, 4.0)), PLAIN, "goodput", True),
        (replayed(figure(100.0, None)), PLAIN, "goodput", None),
        (replayed(figure(None, None)), PLAIN, "goodput", None),
        (replayed(timeout=1), PLAIN, "failed requests", False),
        (replayed(timeout=9), replayed(figure(90.0, 4.0), timeout=1), "failed requests", False),
        (replayed(timeout=1), replayed(figure(90.0, 4.0), refused=1), "failed requests", True),
        (replayed(equal=False), PLAIN, "the client's count and the gateway's", False),
        (replayed(equal=None), PLAIN, "the client's count and the gateway's", None),
    ],
)
def test_in_the_laboratory(with_: Replayed, without: Replayed, what: str, expected: bool | None) -> None:
    assert introduction.in_the_laboratory(OBJECTIVES, replayed(), PLAIN).verdict is Verdict.GO
    assert met(introduction.in_the_laboratory(OBJECTIVES, with_, without))[what] is expected


@pytest.mark.parametrize(
    ("now", "verdict"),
    [
        (rollout(), Verdict.GO),
        (rollout((95, 100)), Verdict.GO),
        (rollout((94, 100)), Verdict.NO_GO),
        (rollout((99, 99)), Verdict.NOT_YET),
        (rollout(None), Verdict.NOT_YET),
        (rollout((0, 0)), Verdict.NOT_YET),
        (rollout((97, 100), (100, 100)), Verdict.NO_GO),  # 3 points below those not treated
        (rollout((98, 100), (100, 100)), Verdict.GO),
        (rollout((97, 100), (99, 99)), Verdict.GO),  # too few of them to compare with
        (rollout(halted="class chatbot: 80 %"), Verdict.NO_GO),
        (rollout(objectives={}), Verdict.NOT_YET),
    ],
)
def test_on_the_ramp(now: RolloutNow, verdict: Verdict) -> None:
    assert introduction.on_the_ramp(now, []).verdict is verdict


def test_a_step_of_the_ramp_is_told() -> None:
    first, second = (
        introduction.on_the_ramp(rollout(), []),
        introduction.on_the_ramp(rollout(step=2, share=0.5), []),
    )
    assert (first.number, first.name) == (3, "the first step, 1 of 3 (10 %)")
    assert (second.number, second.name) == (4, "the ramp, 2 of 3 (50 %)")
    assert introduction.on_the_ramp(rollout(step=None, share=None), []).name == "the first step"


def test_two_halts_of_one_step_by_one_class_are_a_no_go() -> None:
    others = [
        halt(3),
        halt(halted="class coding: 80 %"),
        halt(id="another"),
        {**halt(), "what": "mode.set"},
        {**halt(), "before": "left out: the event has 20000 bytes"},
    ]
    one, two = introduction.on_the_ramp(rollout(), [halt(), *others]), [halt(), halt(), *others]
    assert (one.verdict, met(one)["halts at one step by one class"]) == (Verdict.GO, True)
    assert met(introduction.on_the_ramp(rollout(), two))["halts at one step by one class"] is False
    assert introduction.halts_of(rollout(), two) == {
        (2, "class chatbot"): 2,
        (3, "class chatbot"): 1,
        (2, "class coding"): 1,
    }
    by_hand = [halt(halted="an incident"), halt(halted="another")]
    assert introduction.on_the_ramp(rollout(), by_hand).verdict is Verdict.GO
