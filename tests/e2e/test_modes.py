"""Verification modes on the running system: ordered by `adaserve mode`, at once, with the same output."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from typer.testing import CliRunner

from bench.local import LocalStack
from cli.main import app
from tests.e2e.test_ring import ask, metric, speculation, tokens, until


def mode(stack: LocalStack, *words: str) -> Any:
    done = CliRunner().invoke(app, ["mode", *words, "--url", stack.url])
    assert done.exit_code == 0, done.output
    return done.stdout


def speculates_for(stack: LocalStack, request: dict[str, Any]) -> bool:
    """Asked again where it may not at once: a busy machine's late ring stops speculation for a while."""
    return speculation(stack.complete(request))["num_spec_steps"] > 0


@pytest.fixture(autouse=True)
def automatic(stack: LocalStack) -> Iterator[None]:
    yield
    mode(stack, "auto")
    mode(stack, "auto", "--class", "best_effort")


def test_full_verification_in_the_middle_of_requests_changes_no_token(stack: LocalStack) -> None:
    requests = [ask(number, max_tokens=128) for number in range(4)]
    plain = [tokens(stack.complete({**r, "adaserve": {"speculation": {"enabled": False}}})) for r in requests]
    speculative = 'adaserve_steps_total{kind="speculative"}'
    before = metric(stack, "verifier", speculative)
    with ThreadPoolExecutor(len(requests)) as pool:
        answers: list[Future[Any]] = []

        def speculates() -> bool:
            """With requests under way: they are what tries a busy machine's late ring again."""
            if all(answer.done() for answer in answers):
                answers[:] = [pool.submit(stack.complete, request) for request in requests]
            return metric(stack, "verifier", speculative) > before

        until(speculates, 60.0, "no speculation")
        mode(stack, "full_verification", "--reason", "an exercise")
        at_order = metric(stack, "verifier", speculative)
        found = [tokens(answer.result()) for answer in answers]
    assert found == plain
    assert metric(stack, "verifier", speculative) - at_order <= 1  # the step that was under way
    assert metric(stack, "verifier", "adaserve_mode_speculative") == 0.0
    assert "operator" in mode(stack)
    assert "an exercise" in mode(stack)
    mode(stack, "auto")

    def is_back() -> bool:
        stack.complete(ask(0, max_tokens=8))
        return metric(stack, "verifier", "adaserve_mode_speculative") == 1.0

    until(is_back, 60.0, "auto does not come back")
    until(lambda: speculates_for(stack, requests[0]), 60.0, "auto does not speculate")


def test_an_order_for_a_class_bars_only_that_class(stack: LocalStack) -> None:
    mode(stack, "full_verification", "--class", "best_effort")
    assert speculation(stack.complete(ask(0)))["num_spec_steps"] == 0
    targeted = {"adaserve": {"slo": {"tpot_ms": 500}}}
    until(lambda: speculates_for(stack, ask(0, **targeted)), 60.0, "another class does not speculate")
