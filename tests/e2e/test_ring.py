"""The running system when parts of it die, lie or fall silent: the same tokens, and speculation comes back."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from bench.local import CELL, LocalStack
from bench.prompts import source_prompts
from shared.streams import connect
from shared.topics import Keys
from tests.effort import heavy

KEYS = Keys(CELL)
PROMPTS = source_prompts(6, seed=11, max_chars=300)


# What every fourth request asks for besides: all that has to be built again, and travel, with the tokens.
DEMANDS: dict[str, Any] = {
    "presence_penalty": 0.4,
    "frequency_penalty": 0.2,
    "repetition_penalty": 1.1,
    "logit_bias": {"32": 1.0},
    "logprobs": 2,
}


def ask(number: int, **changes: Any) -> dict[str, Any]:
    return {
        **(DEMANDS if number % 4 == 3 else {}),
        "prompt": PROMPTS[number],
        "max_tokens": 64,
        "temperature": [0.0, 0.8][number % 2],
        "seed": number,
        "ignore_eos": True,
        "return_token_ids": True,
        **changes,
    }


def tokens(answer: dict[str, Any]) -> list[int]:
    found: list[int] = answer["choices"][0]["token_ids"]
    return found


def speculation(answer: dict[str, Any]) -> dict[str, float]:
    found: dict[str, float] = answer["metrics"]["speculative_decoding"]
    return found


def metric(stack: LocalStack, service: str, line: str) -> float:
    found = [text for text in stack.metrics(service).splitlines() if text.startswith(line)]
    return float(found[0].rsplit(" ", 1)[1]) if found else 0.0


def until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


@pytest.fixture(scope="module")
def undisturbed(stack: LocalStack) -> list[list[int]]:
    """Each prompt alone, speculation off: plain decoding."""
    off = {"speculation": {"enabled": False}}
    return [tokens(stack.complete(ask(number, adaserve=off))) for number in range(len(PROMPTS))]


@contextmanager
def eight_streams(stack: LocalStack) -> Iterator[list[Any]]:
    with ThreadPoolExecutor(len(PROMPTS)) as pool:
        yield [pool.submit(stack.complete, ask(number)) for number in range(len(PROMPTS))]


def test_the_batch_speculates_and_equals_plain_decoding(stack: LocalStack, undisturbed: list[list[int]]) -> None:
    def accepted() -> int:
        with eight_streams(stack) as running:
            answers = [future.result() for future in running]
        assert [tokens(answer) for answer in answers] == undisturbed
        return sum(speculation(answer)["num_accepted_draft_tokens"] for answer in answers)

    until(lambda: accepted() > 0, 30, "nothing is accepted")  # on a busy machine a whole batch may miss its trees


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", ["drafter", "selector"])
def test_killing_a_hint_giver_changes_no_token(stack: LocalStack, undisturbed: list[list[int]], name: str) -> None:
    before = metric(stack, "verifier", "adaserve_tokens_committed_total")
    with eight_streams(stack) as running:
        until(
            lambda: metric(stack, "verifier", "adaserve_tokens_committed_total") > before + 80, 30, "no progress"
        )
        stack.kill(name)
        answers = [future.result() for future in running]
    assert [tokens(answer) for answer in answers] == undisturbed
    stack.start(name)
    stack.wait_ready(name)
    until(
        lambda: speculation(stack.complete(ask(0, max_tokens=16)))["num_spec_steps"] > 0,
        20,
        "speculation did not resume",
    )


@heavy
@pytest.mark.timeout(180)
def test_a_drafter_slowed_a_hundredfold_opens_the_breaker(stack: LocalStack, undisturbed: list[list[int]]) -> None:
    stack.kill("drafter")
    stack.start("drafter", "bench.slow_drafter")
    stack.wait_ready("drafter")
    time.sleep(2.0)  # until the verifier has chosen it
    misses = metric(stack, "verifier", 'adaserve_ring_misses_total{reason="deadline"}')
    try:
        with eight_streams(stack) as running:
            answers = [future.result() for future in running]
        assert [tokens(answer) for answer in answers] == undisturbed
        assert metric(stack, "verifier", 'adaserve_ring_misses_total{reason="deadline"}') > misses
        until(lambda: metric(stack, "verifier", "adaserve_breaker_open") == 1.0, 5, "the breaker is not open")
    finally:
        stack.kill("drafter")
        stack.start("drafter")
        stack.wait_ready("drafter")


def test_malformed_hints_and_work_are_dropped_and_the_workers_live(stack: LocalStack) -> None:
    client = connect(stack.redis_url)
    drafters = [member.decode() for member in client.smembers(KEYS.members("drafter"))]
    verifiers = [member.decode() for member in client.smembers(KEYS.members("verifier"))]
    streams = [KEYS.select, *map(KEYS.draft, drafters), *map(KEYS.verify, verifiers), KEYS.control]
    letters = client.xlen(KEYS.dead)
    for stream in [*streams, KEYS.requests(0)]:
        for body in (b"", b"\xc1", b"\x81\xa1v\x01", b"\xff" * 5000):
            client.xadd(stream, {"body": body})
    answer = stack.complete(ask(0, max_tokens=24))
    assert len(tokens(answer)) == 24
    until(lambda: client.xlen(KEYS.dead) >= letters + 4, 10, "malformed work is no dead letter")
    assert all(b"reason" in fields for _, fields in client.xrange(KEYS.dead))
    ended = {name: process.poll() for name, process in stack.processes.items() if process.poll() is not None}
    assert ended == {}, "".join(stack.log(name)[-3000:] for name in ended)
    assert metric(stack, "verifier", 'adaserve_hints_dropped_total{reason="unreadable"}') >= 4
    client.close()


@pytest.mark.parametrize("is_streaming", [True, False])
def test_a_client_that_goes_away_frees_the_kv(stack: LocalStack, is_streaming: bool) -> None:
    def used() -> float:
        return metric(stack, "verifier", 'adaserve_kv_blocks{state="used"}')

    until(lambda: used() == 0, 10, "blocks are in use before the test")
    body = {**ask(1, max_tokens=1500), "model": "default", "stream": is_streaming}
    with (
        contextlib.suppress(httpx.ReadTimeout),
        httpx.Client(timeout=2.0) as client,
        client.stream("POST", f"{stack.url}/v1/completions", json=body) as response,
    ):
        assert is_streaming, "1500 tokens within the client's patience"
        lines = response.iter_lines()  # kept: httpx closes the response with its iterator
        assert next(lines).startswith("id: ")  # a token's event, no error
        until(lambda: used() > 0, 10, "the request did not start")
    until(lambda: used() == 0, 10, "the KV of a client that went away is still held")
