"""The running system when a gateway dies or Redis forgets: every client gets plain decoding's tokens."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
import pytest

from bench.local import LocalStack
from shared.streams import connect
from tests.e2e.test_ring import PROMPTS, ask, metric, tokens

READ_S = 150.0  # between two pieces of a stream: a verifier may have to start in it

pytestmark = pytest.mark.timeout(240)


@dataclass
class Client:
    """A client that reads streams and remembers the last event's id."""

    number: int
    got: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    last: str = ""
    arrivals: list[float] = field(default_factory=list)
    is_done: bool = False

    def read(self, lines: Iterator[str], stop_after: int | None = None) -> None:
        for line in lines:
            if line.startswith("id: "):
                self.last = line[4:]
            elif line == "data: [DONE]":
                self.is_done = True
            elif line.startswith("data: "):
                event = json.loads(line[6:])
                assert "error" not in event, event
                [choice] = event["choices"]
                self.got += choice.get("token_ids", [])
                self.logprobs += (choice["logprobs"] or {}).get("token_logprobs", [])
                self.arrivals.append(time.monotonic())
                if stop_after is not None and len(self.got) >= stop_after:
                    return

    def begin(self, url: str, stop_after: int | None = None) -> None:
        body = {"model": "default", **ask(self.number), "stream": True}
        with httpx.stream("POST", f"{url}/v1/completions", json=body, timeout=READ_S) as response:
            self.read(response.iter_lines(), stop_after)

    def resume(self, url: str) -> None:
        headers = {"last-event-id": self.last}
        stream = self.last.partition(":")[0]
        with httpx.stream("GET", f"{url}/v1/streams/{stream}", headers=headers, timeout=READ_S) as response:
            assert response.status_code == 200
            self.read(response.iter_lines())


@dataclass(frozen=True)
class Undisturbed:
    """Plain decoding's answers."""

    tokens: list[list[int]]
    logprobs: list[list[float]]

    def check(self, clients: list[Client]) -> None:
        """Every client has the same. A token's entry may come from another forward pass than the reference's."""
        assert [client.got for client in clients] == self.tokens
        for client, expected in zip(clients, self.logprobs, strict=True):
            assert client.logprobs == pytest.approx(expected, abs=1e-5)


@pytest.fixture(scope="module")
def undisturbed(stack: LocalStack) -> Undisturbed:
    off = {"speculation": {"enabled": False}}
    answers = [stack.complete(ask(number, adaserve=off)) for number in range(len(PROMPTS))]
    told = [answer["choices"][0]["logprobs"] or {} for answer in answers]
    assert any(told)
    return Undisturbed([tokens(answer) for answer in answers], [each.get("token_logprobs", []) for each in told])


@contextmanager
def second_gateway(stack: LocalStack) -> Iterator[str]:
    stack.settings = {**stack.settings, "gateway-2": stack.settings["gateway"]}
    stack.start("gateway-2", "services.gateway")
    try:
        stack.wait_ready("gateway-2")
        yield f"http://127.0.0.1:{stack.ports['gateway-2']}"
    finally:
        stack.kill("gateway-2")
        del stack.processes["gateway-2"]  # of the session's stack, whose processes are expected to live


def test_after_a_gateways_death_clients_go_on_at_another_within_a_second(
    stack: LocalStack, undisturbed: Undisturbed
) -> None:
    clients = [Client(number) for number in range(len(PROMPTS))]

    def until_death(client: Client) -> None:
        with pytest.raises(httpx.RemoteProtocolError):
            client.begin(url)

    with ThreadPoolExecutor(len(clients)) as pool:
        with second_gateway(stack) as url:
            running = [pool.submit(until_death, client) for client in clients]
            while not all(client.got for client in clients):
                time.sleep(0.01)
            assert not any(client.is_done for client in clients)
            stack.kill("gateway-2")
            for each in running:
                each.result()
        died = time.monotonic()
        list(pool.map(lambda client: client.resume(stack.url), clients))
    waits = [next(at for at in client.arrivals if at > died) - died for client in clients]
    print(f"first new event after the death of the gateway: at most {1000 * max(waits):.0f} ms")  # noqa: T201
    assert max(waits) <= 5.0  # the promise is 1 s, on a machine without other work
    undisturbed.check(clients)
    assert all(client.is_done for client in clients)


@pytest.mark.parametrize("after_tokens", [0, 1, 40])
def test_redis_forgetting_everything_under_load_corrupts_no_stream(
    stack: LocalStack, undisturbed: Undisturbed, after_tokens: int
) -> None:
    restored = 'adaserve_commits_total{status="MISSING"}'
    before = metric(stack, "verifier", restored)
    clients = [Client(number) for number in range(len(PROMPTS))]
    with ThreadPoolExecutor(len(clients)) as pool:
        running = [pool.submit(client.begin, stack.url) for client in clients]
        while after_tokens and max(len(client.got) for client in clients) < after_tokens:
            time.sleep(0.005)
        redis = connect(stack.redis_url)
        redis.flushall()
        redis.close()
        for each in running:
            each.result()
    undisturbed.check(clients)
    assert all(client.is_done for client in clients)
    stalls = [max(b - a for a, b in itertools.pairwise(client.arrivals)) for client in clients]
    print(f"longest silence of a stream: {1000 * max(stalls):.0f} ms")  # noqa: T201
    assert max(stalls) <= 3.0
    if after_tokens:
        assert metric(stack, "verifier", restored) > before


def test_redis_and_the_verifier_lost_at_once_leave_what_clients_have_seen(
    stack: LocalStack, undisturbed: Undisturbed
) -> None:
    clients = [Client(number) for number in range(len(PROMPTS))]
    with ThreadPoolExecutor(len(clients)) as pool:
        running = [pool.submit(client.begin, stack.url) for client in clients]
        while min(len(client.got) for client in clients) < 4:
            time.sleep(0.005)
        stack.kill("verifier")
        redis = connect(stack.redis_url)
        redis.flushall()
        redis.close()
        stack.start("verifier")
        stack.wait_ready("verifier")  # which the tests after this one need too
        for each in running:
            each.result()
    undisturbed.check(clients)
    assert metric(stack, "gateway", 'adaserve_restored_total{status="OK"}') >= len(PROMPTS)
