"""A verifier of two ranks in the running system: the tokens of one, and the end of both with the end of either."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console

from bench.flagship import compare, describe, streams
from bench.local import LocalStack, local_stack
from tests.e2e.test_ring import PROMPTS, ask, metric, speculation, tokens, until
from tests.effort import heavy

TWO_RANKS = {"DTYPE": "float64", "TENSOR_PARALLEL": "2"}
OFF: dict[str, Any] = {"speculation": {"enabled": False}}
AT_ONCE_S = 3.0  # on a busy machine


@pytest.fixture(scope="module")
def divided(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """Apart from its verifier as the session's stack."""
    folder = tmp_path_factory.mktemp("tmp")
    settings = {"verifier": TWO_RANKS, "selector": {"POLICY": "paper"}}
    with local_stack(settings, environment={"TMPDIR": str(folder)}) as running:
        yield running
    assert list(folder.glob("adaserve-ranks-*")) == []


def started(stack: LocalStack) -> None:
    """With a verifier, as whoever supervises it would see to; its log begins anew."""
    if stack.processes["verifier"].poll() is not None:
        (stack.folder / "verifier.log").unlink()
        stack.start("verifier")
        stack.wait_ready("verifier")


def second_rank(stack: LocalStack) -> int:
    """The process that the verifier has started."""
    leader = stack.processes["verifier"].pid
    (pid,) = map(int, Path(f"/proc/{leader}/task/{leader}/children").read_text().split())
    return pid


def is_gone(pid: int) -> bool:
    """Ended, whether or not somebody has asked how."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.timeout(300)
def test_two_ranks_speculate_and_draw_one_ranks_plain_tokens(divided: LocalStack, stack: LocalStack) -> None:
    numbers = range(len(PROMPTS))
    plain = [tokens(stack.complete(ask(number, adaserve=OFF))) for number in numbers]
    with ThreadPoolExecutor(len(PROMPTS)) as pool:
        answers = list(pool.map(lambda number: divided.complete(ask(number)), numbers))
    assert [tokens(answer) for answer in answers] == plain
    assert sum(speculation(answer)["num_accepted_draft_tokens"] for answer in answers) > 0


@pytest.mark.timeout(300)
def test_the_death_of_a_rank_ends_the_service_at_once_and_says_so(divided: LocalStack) -> None:
    started(divided)
    leader, second = divided.processes["verifier"], second_rank(divided)
    body = {**ask(1, max_tokens=400), "model": "default", "stream": True}
    with (
        httpx.Client(timeout=20) as client,
        client.stream("POST", f"{divided.url}/v1/completions", json=body) as answer,
    ):
        lines = answer.iter_lines()
        assert next(lines).startswith("id: ")  # in the middle of a forward pass, then
        assert divided.is_ready("verifier")
        killed = time.monotonic()
        os.kill(second, signal.SIGKILL)
        assert leader.wait(20) == 1
        assert time.monotonic() - killed < AT_ONCE_S
    line = f"CRITICAL services.verifier.ranks: rank 1 (pid {second}) was ended by SIGKILL: the verifier ends"
    assert line in divided.log("verifier")
    assert "Traceback" not in divided.log("verifier")
    assert not divided.is_ready("verifier")


@heavy
@pytest.mark.timeout(300)
def test_a_request_goes_on_where_a_rank_died(divided: LocalStack) -> None:
    started(divided)
    whole = tokens(divided.complete(ask(1, max_tokens=400)))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(divided.complete, ask(1, max_tokens=400))
        until(lambda: metric(divided, "verifier", 'adaserve_kv_blocks{state="used"}') > 0, 20, "nothing runs")
        os.kill(second_rank(divided), signal.SIGKILL)
        divided.processes["verifier"].wait(20)
        started(divided)
        assert tokens(waiting.result()) == whole


@heavy
@pytest.mark.timeout(300)
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_rank_ends_with_the_one_that_leads_it(divided: LocalStack, how: signal.Signals) -> None:
    started(divided)
    leader, second = divided.processes["verifier"], second_rank(divided)
    os.kill(second, signal.SIGTERM)  # systemd, say, signals all: the others wait for rank 0 to drain
    leader.send_signal(how)
    assert leader.wait(20) == (0 if how is signal.SIGTERM else -how)
    until(lambda: is_gone(second), AT_ONCE_S, "rank 1 outlives rank 0")
    assert divided.log("verifier").count("rank 0 is gone") == (how is signal.SIGKILL)


@heavy
@pytest.mark.timeout(900)
def test_a_rank_that_is_stuck_is_no_ready_verifier(divided: LocalStack) -> None:
    """A stopped process is no dead one: readiness goes within seconds, the sum times out after a minute."""
    started(divided)
    second = second_rank(divided)
    body = {**ask(1, max_tokens=400), "model": "default", "stream": True}
    with (
        httpx.Client(timeout=20) as client,
        client.stream("POST", f"{divided.url}/v1/completions", json=body) as answer,
    ):
        lines = answer.iter_lines()
        assert next(lines).startswith("id: ")  # only a forward pass shows it
        os.kill(second, signal.SIGSTOP)
        until(lambda: not divided.is_ready("verifier"), 30, "ready while rank 1 is stopped")
        assert divided.processes["verifier"].wait(90) == 1
    assert "the ranks have lost each other" in divided.log("verifier")
    until(lambda: is_gone(second), AT_ONCE_S, "a stopped rank outlives rank 0")


@heavy
@pytest.mark.timeout(900)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_flagship_holds_on_two_ranks(dtype: str) -> None:
    verdict = compare(dtype, streams(40), 48, Console(quiet=True), ranks=2)
    print(describe(verdict))  # noqa: T201 - the count of ties belongs into the test's output
    assert verdict.accepted_per_step > 0.5
    assert verdict.holds, describe(verdict)
