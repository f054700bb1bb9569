"""What of a rehearsal is a fault, and that the verdict tells it."""

from __future__ import annotations

from collections import Counter

import pytest

from deploy.rehearsal.campaign import UPGRADE
from deploy.rehearsal.clients import Seen
from deploy.rehearsal.report import figures, summary
from deploy.rehearsal.result import Result, Step


def faults(*steps: Step) -> list[str]:
    return Result(steps=list(steps)).faults


def refused(count: int, may_refuse: int | None) -> Step:
    return Step("s", Seen(outcomes=Counter({"503 draining": count, "whole": 9})), may_refuse=may_refuse)


def test_a_connection_without_an_answer_is_a_fault() -> None:
    seen = Seen(outcomes=Counter({"no answer: ConnectionResetError": 2, "whole": 9}))
    (fault,) = faults(Step("rollout of gateway", seen, may_refuse=None))
    assert fault.startswith("rollout of gateway: 2 requests were never answered")


@pytest.mark.parametrize(("count", "may_refuse", "num_faults"), [(6, 6, 0), (7, 6, 1), (1, 0, 1), (99, None, 0)])
def test_each_client_may_be_refused_once_by_a_gateway_that_leaves(
    count: int, may_refuse: int | None, num_faults: int
) -> None:
    assert len(faults(refused(count, may_refuse))) == num_faults


@pytest.mark.parametrize(
    ("longest_s", "may_refuse", "num_faults"), [(2.9, 6, 0), (3.1, 6, 1), (9.9, None, 0), (10.1, None, 1)]
)
def test_no_stream_may_be_silent_for_long(longest_s: float, may_refuse: int | None, num_faults: int) -> None:
    step = Step("s", Seen(outcomes=Counter({"whole": 2}), stalls=[0.1, longest_s]), may_refuse=may_refuse)
    assert len(faults(step)) == num_faults


def test_the_verdict_tells_refusals_and_unanswered_requests_and_the_upgrade_apart() -> None:
    upgrade = Step(
        f"{UPGRADE}: all",
        Seen(outcomes=Counter({"whole": 4, "503 no_bus": 3, "no answer: OSError": 1}), stalls=[2.5]),
        may_refuse=None,
    )
    upgrade.seen.damage.append("s: truncated after 3 tokens")
    told = summary(Result(steps=[refused(2, 6), upgrade]))
    assert "refused or reset before an answer: 1 (goal 0); asked again: 2 503 draining, 3 503 no_bus" in told
    assert f"of these, {UPGRADE}: 4 streams whole; truncated, wrong or failed: 1 (goal 0)" in told
    assert "longest silence: p50 2.50 s, p99 2.50 s, max 2.50 s" in told
    assert told.count("FAULT") == 2
    assert [one["unanswered"] for one in figures(Result(steps=[upgrade]))["steps"]] == [1]
