"""The figures of the overload test, and its load generator's reading of answers."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import pytest

from bench.open_load import OK, TOO_MANY, Answer, Ask, parse, poisson
from bench.overload import attainment, goodput, percentile, recovery_s

ASK = Ask({}, "default")


def answer(at: float, met: bool | None, status: int = OK, tokens: int = 10) -> Answer:
    return Answer(ASK, at, 0.1, status, tokens=tokens, met=met)


def test_goodput_counts_tokens_of_attained_requests_only() -> None:
    answers = [answer(0, True), answer(1, False), answer(2, None), answer(3, True, tokens=5)]
    assert goodput(answers, 5.0) == 3.0


def test_a_refused_request_has_not_attained_and_best_effort_is_not_judged() -> None:
    assert attainment([answer(0, True), answer(1, None, TOO_MANY), answer(2, None)]) == 0.5
    assert math.isnan(attainment([answer(0, None)]))


@pytest.mark.parametrize(
    ("met", "expected"), [([True] * 5, 0.0), ([False, False, True, True, True], 2.0), ([False] * 5, 4.0)]
)
def test_recovery_is_from_when_on_all_is_normal(met: list[bool], expected: float) -> None:
    assert recovery_s([answer(float(at), was_met) for at, was_met in enumerate(met)], 1.0) == expected


def test_percentiles_are_nearest_ranks() -> None:
    assert [percentile([3, 1, 2, 4], part) for part in (0.0, 0.5, 0.99)] == [1, 2, 4]
    assert math.isnan(percentile([], 0.5))


def test_poisson_arrivals_have_their_rate_and_are_the_same_for_a_seed() -> None:
    def make(chance: random.Random) -> Ask:
        return Ask({"seed": chance.random()}, "t")

    arrivals = poisson(50.0, 100.0, make, seed=3)
    assert len(arrivals) == pytest.approx(5000, rel=0.05)
    assert arrivals == poisson(50.0, 100.0, make, seed=3)
    assert all(0 < at < 100.0 for at, _ in arrivals)


def http(status: int, body: Any, *headers: str) -> bytes:
    head = "\r\n".join([f"HTTP/1.1 {status} Whatever", *headers])
    return head.encode() + b"\r\n\r\n" + json.dumps(body).encode()


def test_answers_are_read_as_the_gateway_writes_them() -> None:
    refused = parse(ASK, 1.0, 0.5, http(429, {"error": {"code": "queue_full"}}, "retry-after-ms: 1500"))
    assert (refused.status, refused.code, refused.retry_after_s) == (429, "queue_full", 1.5)
    assert parse(ASK, 1.0, 0.5, http(500, {"error": {"code": "x"}})).retry_after_s == 0.0
    metrics = {"slo": {"met": True, "tpot_ms": 9.5}, "speculative_decoding": {"num_draft_tokens": 8}}
    whole = parse(ASK, 1.0, 0.5, http(200, {"usage": {"completion_tokens": 4}, "metrics": metrics}))
    assert (whole.tokens, whole.met, whole.tpot_ms, whole.drafted) == (4, True, 9.5, 2.0)
    assert [parse(ASK, 0, 0, raw).status for raw in (b"", b"HTTP/1.1 200 OK\r\n\r\n{", b"x y")] == [0, 0, 0]
