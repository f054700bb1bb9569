"""Requests and tokens per minute and requests at a time, on served gateways and without Redis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx
import openai
import pytest
import pytest_asyncio
from redis import Redis

from services.gateway import shared_counts
from services.gateway.bus import Bus
from services.gateway.quotas import Quotas
from services.gateway.rate_limits import LimitReached, Window
from services.gateway.shared_counts import ALONE_S, Together
from shared.embedded_redis import EmbeddedRedis
from shared.errors import BusUnavailable
from shared.policy import Policy
from shared.telemetry import Telemetry, configure
from shared.topics import Keys
from tests.unit.services.gateway.conftest import NEW_ATTACHMENT, Other, Served
from tests.unit.services.gateway.fake_verifier import Reply

ASK: dict[str, Any] = {"prompt": [5] * 5, "max_tokens": 20}
WINDOW = Window(29_000_000, 40.0)
NOW_S = 60 * WINDOW.minute + 20.0


def policy_of(**limits: int) -> Policy:
    tenants = {
        "acme": {"classes": ["chat"], "default": "chat", **limits},
        "free": {"classes": ["chat"], "default": "chat"},
    }
    return Policy.model_validate({"classes": {"chat": {}}, "tenants": tenants})


@pytest.fixture
def policy() -> Policy | None:
    return policy_of()


@pytest.fixture(autouse=True)
def frozen(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The minute does not end during a test, and a busy machine is not taken for a Redis that is away."""
    now = [NOW_S]
    monkeypatch.setattr(shared_counts, "WAIT_S", 20.0)
    original = Quotas.__init__

    def init(self: Quotas, *arguments: Any, **named: Any) -> None:
        original(self, *arguments, **{"clock": lambda: now[0], **named})

    monkeypatch.setattr(Quotas, "__init__", init)
    return now


async def ask(client: httpx.AsyncClient, tenant: str = "acme", **body: Any) -> httpx.Response:
    return await client.post("/v1/completions", json={**ASK, **body}, headers={"x-adaserve-tenant": tenant})


def limits_of(answer: httpx.Response) -> dict[str, str]:
    prefix = "x-ratelimit-"
    return {name.removeprefix(prefix): value for name, value in answer.headers.items() if name.startswith(prefix)}


def limit(served: Served, other: Other | None = None, **limits: int) -> None:
    for gateway in (served.gateway, *([] if other is None else [other.gateway])):
        gateway.policies.current = policy_of(**limits)


def spent(served: Served, unit: str) -> int:
    found = served.redis.get(f"{served.keys.spent}:{unit}:acme:{WINDOW.minute}")
    return int(found or 0)  # type: ignore[arg-type]


def running(served: Served) -> int:
    return int(served.redis.zcard(served.keys.running("acme")))  # type: ignore[arg-type]


async def test_without_limits_nothing_is_counted_or_told(served: Served) -> None:
    for tenant in ("acme", "free"):
        answer = await ask(served.http, tenant)
        assert (answer.status_code, limits_of(answer)) == (200, {})
    assert not list(served.redis.scan_iter(f"{served.keys.spent}*"))


async def test_requests_per_minute_are_those_of_all_gateways(
    served: Served, other: Other, frozen: list[float]
) -> None:
    limit(served, other, rpm=3)
    answers = [await ask(client) for client in (served.http, other.http, served.http, other.http)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert [limits_of(answer)["remaining-requests"] for answer in answers] == ["2", "1", "0", "0"]
    assert limits_of(answers[0]) == {"limit-requests": "3", "remaining-requests": "2", "reset-requests": "40s"}
    error = answers[3].json()["error"]
    assert (error["type"], error["code"], error["adaserve"]) == (
        "rate_limit_error",
        "rate_limit_exceeded",
        {"rpm": 3},
    )
    assert (answers[3].headers["retry-after"], answers[3].headers["retry-after-ms"]) == ("40", "40000")
    assert spent(served, "requests") == 3
    frozen[0] += 40.0
    assert (await ask(served.http)).status_code == 200
    assert 'adaserve_rate_limited_total{limit="rpm"} 1.0' in served.gateway.telemetry.prometheus().decode()


async def test_a_429_tells_of_tokens_too_and_what_never_fits_is_none(served: Served) -> None:
    limit(served, rpm=1, tpm=100, max_concurrent=2)
    assert (await ask(served.http)).status_code == 200
    refused = await ask(served.http)
    assert refused.status_code == 429
    assert limits_of(refused).keys() >= {"remaining-requests", "limit-tokens", "remaining-tokens", "reset-tokens"}
    for body, param in (({"max_tokens": 500}, "max_tokens"), ({"n": 3}, "n")):
        answer = await ask(served.http, **body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), "not in any minute"


async def test_streams_and_the_openai_client_are_told_too(served: Served) -> None:
    limit(served, rpm=1)
    headers = {"x-adaserve-tenant": "acme"}
    client = served.openai.with_options(default_headers=headers)
    told = await client.completions.with_raw_response.create(model="default", prompt="hello", stream=True)
    assert told.headers["x-ratelimit-remaining-requests"] == "0"
    async for _ in told.parse():
        pass
    with pytest.raises(openai.RateLimitError):
        await client.completions.create(model="default", prompt="hello")


async def test_tokens_are_taken_at_the_door_and_given_back_at_the_end(served: Served) -> None:
    limit(served, tpm=100)
    gate = asyncio.Event()
    served.answers(Reply([[5], [6]], gate=gate))
    first = asyncio.create_task(ask(served.http))
    await served.until(lambda: served.verifier.statuses)
    assert spent(served, "tokens") == 25
    gate.set()
    answer = await first
    assert limits_of(answer) == {"limit-tokens": "100", "remaining-tokens": "75", "reset-tokens": "40s"}
    await served.until(lambda: spent(served, "tokens") == 7)  # 5 in, 2 out


async def test_what_does_not_fit_into_the_minute_is_refused_and_takes_nothing(served: Served) -> None:
    limit(served, tpm=60, rpm=10)
    gate = asyncio.Event()
    served.answers(Reply([[5], [6]], gate=gate))
    first = [asyncio.create_task(ask(served.http)) for _ in range(2)]
    await served.until(lambda: len(served.verifier.statuses) == 2)
    refused = await ask(served.http)
    assert refused.status_code == 429
    assert "10 are left" in refused.json()["error"]["message"]
    assert limits_of(refused)["remaining-tokens"] == "10"
    await served.until(lambda: spent(served, "tokens") == 50)
    assert spent(served, "requests") == 2
    assert len(served.verifier.requests) == 2
    fits = asyncio.create_task(ask(served.http, max_tokens=5))
    await served.until(lambda: len(served.verifier.requests) == 3)
    gate.set()
    for task in (*first, fits):
        assert (await task).status_code == 200
    await served.until(lambda: spent(served, "tokens") == 3 * 7)


async def test_tokens_that_only_tokenizing_could_tell_count_as_a_request(served: Served) -> None:
    limit(served, tpm=80, rpm=10)  # 50 of the first, and 21 that the second is known to take: it is let in
    for prompt in ([5] * 30, [6] * 30):
        served.answers(Reply([[5] * 20]))
        answer = await ask(served.http, prompt=prompt)
    assert answer.status_code == 429
    await served.until(lambda: spent(served, "tokens") == 50)
    assert spent(served, "requests") == 2


async def test_what_is_refused_before_its_prompt_was_tokenized_counts_nowhere(served: Served) -> None:
    limit(served, tpm=60, rpm=10)
    served.answers(Reply([[5] * 20]))
    assert (await ask(served.http, prompt=[5] * 30)).status_code == 200
    assert (await ask(served.http, prompt=[6] * 30)).status_code == 429
    await served.until(lambda: (spent(served, "tokens"), spent(served, "requests")) == (50, 1))


async def test_what_never_fits_is_a_400(served: Served) -> None:
    limit(served, tpm=30, rpm=10, max_concurrent=2)
    for body, param in (
        ({"max_tokens": 40}, "max_tokens"),
        ({"n": 3, "max_tokens": 1}, "n"),
        ({"prompt": [5] * 40}, "max_tokens"),
    ):
        answer = await ask(served.http, **body)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["param"]) == (400, "exceeds_tenant_limit", param)
    await served.until(lambda: (spent(served, "tokens"), running(served)) == (0, 0))


async def test_who_gives_no_max_tokens_is_not_refused_for_the_default(served: Served) -> None:
    limit(served, tpm=30)
    body = {"prompt": [5] * 5, "n": 2}
    answer = await served.http.post("/v1/completions", json=body, headers={"x-adaserve-tenant": "acme"})
    assert answer.status_code == 200
    assert {request.max_tokens for request in served.verifier.requests} == {12}


async def test_so_many_run_at_once_on_all_gateways(
    served: Served, other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bus, "new_attachment", NEW_ATTACHMENT)
    limit(served, other, max_concurrent=2)
    gate = asyncio.Event()
    served.answers(Reply([[5], [6]], gate=gate))
    tasks = [asyncio.create_task(ask(client)) for client in (served.http, other.http)]
    await served.until(lambda: len(served.verifier.statuses) == 2)
    refused = [await ask(client) for client in (served.http, other.http)]
    for answer in refused:
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (429, "concurrency_limit_exceeded")
        assert (error["adaserve"], answer.headers["retry-after-ms"]) == ({"max_concurrent": 2}, "1000")
    gate.set()
    assert [(await task).status_code for task in tasks] == [200, 200]
    await served.until(lambda: running(served) == 0)
    assert (await ask(served.http)).status_code == 200


async def test_choices_count_one_by_one(served: Served) -> None:
    limit(served, max_concurrent=3, rpm=10, tpm=1_000)
    gate = asyncio.Event()
    served.answers(Reply([[5], [6]], gate=gate))
    first = asyncio.create_task(ask(served.http, n=2))
    await served.until(lambda: len(served.verifier.statuses) == 2)
    assert (running(served), spent(served, "requests"), spent(served, "tokens")) == (2, 1, 5 + 2 * 20)
    refused = await ask(served.http, n=2)
    assert (refused.status_code, "2 choices" in refused.json()["error"]["message"]) == (429, True)
    gate.set()
    assert (await first).status_code == 200
    await served.until(lambda: (running(served), spent(served, "tokens")) == (0, 5 + 2 * 2))


async def test_a_client_that_leaves_gives_everything_back_but_what_was_made(served: Served) -> None:
    limit(served, max_concurrent=1, tpm=100)
    words = served.tokenizer.encode("hello there", special=False)
    served.answers(Reply([words, [8]], gate=asyncio.Event()))
    async with served.http.stream(
        "POST", "/v1/completions", json={**ASK, "stream": True}, headers={"x-adaserve-tenant": "acme"}
    ) as response:
        async for line in response.aiter_lines():
            if "text" in line:
                break
    await served.until(lambda: (running(served), spent(served, "tokens")) == (0, 5 + len(words)))


async def test_what_the_queue_refuses_gives_back_all_but_the_request(served: Served) -> None:
    limit(served, max_concurrent=1, tpm=100, rpm=5)
    await served.verifier.pause()
    for _ in range(served.gateway.settings.queue_limit):
        served.redis.xadd(served.keys.requests(2), {"body": "x"})
    answer = await ask(served.http)
    assert (answer.status_code, "queue_full" in answer.json()["error"]["code"]) == (429, True)
    await served.until(lambda: (running(served), spent(served, "tokens")) == (0, 0))
    assert spent(served, "requests") == 1


async def test_bad_requests_count_as_requests_only(served: Served) -> None:
    limit(served, max_concurrent=1, tpm=100_000, rpm=5)
    answer = await ask(served.http, max_tokens=10_000)
    assert answer.json()["error"]["code"] == "context_length_exceeded"
    await served.until(lambda: (running(served), spent(served, "tokens")) == (0, 0))
    assert spent(served, "requests") == 1


async def test_a_repeated_key_is_counted_once(served: Served, other: Other) -> None:
    limit(served, other, rpm=2, tpm=100, max_concurrent=1)
    headers = {"x-adaserve-tenant": "acme", "idempotency-key": "k"}
    for client in (served.http, other.http, served.http):
        answer = await client.post("/v1/completions", json=ASK, headers=headers)
        assert answer.status_code == 200
    assert limits_of(answer) == {}
    assert spent(served, "requests") == 1
    await served.until(lambda: running(served) == 0)


async def test_a_resumed_stream_keeps_its_place_and_is_counted_once(
    served: Served, other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bus, "new_attachment", NEW_ATTACHMENT)
    limit(served, other, rpm=1, tpm=25, max_concurrent=1)
    gate = asyncio.Event()
    served.answers(Reply([[5], [6]], gate=gate))
    own = {"x-adaserve-tenant": "acme"}
    first = asyncio.create_task(ask(served.http, adaserve={"resumable": True}))
    await served.until(lambda: served.verifier.statuses)
    stream = served.verifier.requests[0].request
    first.cancel()
    await served.until(lambda: served.redis.zscore(served.keys.abandoned, stream))
    assert running(served) == 1
    resumed = asyncio.create_task(other.http.get(f"/v1/streams/{stream}", headers=own))
    await served.until(lambda: other.gateway._quotas.leases.num_held("acme"))
    assert running(served) == 1
    gate.set()
    assert (await resumed).text.endswith("data: [DONE]\n\n")
    await served.until(lambda: running(served) == 0)
    assert (spent(served, "requests"), spent(served, "tokens")) == (1, 25)
    again = await served.http.get(f"/v1/streams/{stream}", headers=own)
    assert (again.status_code, running(served)) == (200, 0)


async def test_a_stream_taken_over_keeps_one_place(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bus, "new_attachment", NEW_ATTACHMENT)
    limit(served, max_concurrent=1)
    gate = asyncio.Event()
    served.answers(Reply([[5], [6]], gate=gate))
    own = {"x-adaserve-tenant": "acme"}
    first = asyncio.create_task(ask(served.http))
    await served.until(lambda: served.verifier.statuses)
    stream = served.verifier.requests[0].request
    second = asyncio.create_task(served.http.get(f"/v1/streams/{stream}", headers=own))
    assert (await first).json()["error"]["code"] == "detached"
    assert (running(served), served.gateway._quotas.leases.num_held("acme")) == (1, 1)
    gate.set()
    await second
    await served.until(lambda: running(served) == 0)


async def test_leases_are_renewed_also_after_redis_forgot(served: Served) -> None:
    limit(served, max_concurrent=1)
    gate = asyncio.Event()
    served.answers(Reply([[5], [6]], gate=gate))
    first = asyncio.create_task(ask(served.http))
    await served.until(lambda: served.verifier.statuses)
    served.redis.delete(served.keys.running("acme"))
    await served.gateway._quotas.leases.renew()
    assert running(served) == 1
    assert (await ask(served.http)).status_code == 429
    gate.set()
    await first


@dataclass
class Alone:
    """Quotas of a gateway, on a Redis that a test can stop."""

    quotas: Quotas
    server: EmbeddedRedis
    bus: Bus
    telemetry: Telemetry
    tick: Callable[[float], None]


@pytest_asyncio.fixture
async def alone(keys: Keys) -> AsyncIterator[Alone]:
    now = [0.0]

    def tick(seconds: float) -> None:
        now[0] += seconds

    with EmbeddedRedis() as server, configure("gateway", "test") as telemetry:
        bus = Bus(server.url, keys, "gateway.test")
        quotas = Quotas(bus, server.url, telemetry, lambda: policy_of(rpm=3, tpm=100, max_concurrent=2))
        quotas.leases._together._clock = lambda: now[0]
        await bus.start()
        yield Alone(quotas, server, bus, telemetry, tick)
        await quotas.stop()
        await bus.stop()


async def test_without_redis_limits_are_counted_here_at_once(
    alone: Alone, caplog: pytest.LogCaptureFixture
) -> None:
    await alone.quotas.grant("acme").admit(["a"], 10)
    await asyncio.to_thread(alone.server.stop)
    granted = alone.quotas.grant("acme")
    started = time.monotonic()
    await granted.admit(["b"], 10)
    await granted.reserve(5, 10)
    assert time.monotonic() - started < 1.0  # a refused connection; a hang is the next test's
    with pytest.raises(LimitReached) as error:
        await alone.quotas.grant("acme").admit(["c"], 10)
    assert error.value.code == "concurrency_limit_exceeded"
    granted.ended("b", tokens=3)
    await asyncio.gather(*alone.quotas._tasks)
    await alone.quotas.grant("acme").admit(["c"], 10)
    with pytest.raises(LimitReached) as error:
        await alone.quotas.grant("acme").admit(["d"], 10)
    assert error.value.code == "rate_limit_exceeded"
    assert caplog.text.count("counted by this gateway alone") == 1
    assert b"adaserve_limits_local 1.0" in alone.telemetry.prometheus()
    alone.tick(ALONE_S)
    assert await alone.quotas.leases._together.ask(partial(asyncio.sleep, 0, 7)) == 7
    assert "together again" in caplog.text
    assert b"adaserve_limits_local 0.0" in alone.telemetry.prometheus()


async def test_a_hanging_redis_is_waited_for_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_counts, "WAIT_S", 0.05)
    asked = []

    async def hang() -> int:
        asked.append(1)
        await asyncio.sleep(60)
        return 1

    now = [0.0]
    with configure("gateway", "test") as telemetry:
        together = Together(telemetry, lambda: now[0])
        started = time.monotonic()
        assert await together.ask(hang) is None
        assert shared_counts.WAIT_S <= time.monotonic() - started < shared_counts.WAIT_S + 0.5
        for _ in range(100):
            assert await together.ask(hang) is None
        assert len(asked) == 1
        now[0] = ALONE_S

        async def answer() -> int:
            return 7

        assert await together.ask(answer) == 7


async def test_a_place_whose_grant_got_lost_is_given_back(alone: Alone, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis has counted it, and this gateway, which had no answer, has no room."""
    await alone.quotas.grant("acme").admit(["a", "b"], 1)
    original, lost = alone.bus.call, []

    async def lossy(call: Any) -> Any:
        if call.function == "adaserve_hold" and not lost:
            lost.append(1)
            await original(call)
            raise BusUnavailable("the reply is lost")
        return await original(call)

    monkeypatch.setattr(alone.bus, "call", lossy)
    with pytest.raises(LimitReached):
        await alone.quotas.grant("acme").admit(["c"], 1)
    while alone.quotas._tasks:
        await asyncio.sleep(0.01)
    with Redis.from_url(alone.server.url) as client:
        assert client.zrange(alone.bus.keys.running("acme"), 0, -1) == [b"a", b"b"]


async def test_what_is_given_back_after_the_minute_helps_nobody(alone: Alone, frozen: list[float]) -> None:
    granted = alone.quotas.grant("acme")
    await granted.admit(["a"], 50)
    await granted.reserve(10, 40)
    frozen[0] += 60
    granted.ended("a", tokens=1)
    granted.ended("a", tokens=1)
    assert await alone.quotas.spending.add("tokens", "acme", Window.at(frozen[0]), 0) == 0
    assert await alone.quotas.spending.add("tokens", "acme", WINDOW, 0) == 50


async def test_a_choice_that_goes_on_elsewhere_may_use_all_it_has(alone: Alone) -> None:
    granted = alone.quotas.grant("acme")
    await granted.admit(["a", "b"], 2)
    await granted.reserve(10, 20)
    granted.ended("a", tokens=1, goes_on=True)
    granted.ended("b", tokens=3)
    await asyncio.gather(*alone.quotas._tasks)
    assert await alone.quotas.spending.add("tokens", "acme", WINDOW, 0) == 10 + 20 + 3
