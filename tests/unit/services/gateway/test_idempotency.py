"""One key, one generation: repeated, concurrent, on any gateway."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from services.gateway import idempotency
from services.gateway.bus import Bus
from services.gateway.errors import ApiError
from services.gateway.schemas import CompletionRequest
from services.gateway.slo import Slo
from shared.errors import BusUnavailable
from shared.replies import Left
from tests.unit.services.gateway.conftest import ANSWER, NEW_ATTACHMENT, Other, Served
from tests.unit.services.gateway.fake_verifier import Reply

PROMPT: dict[str, Any] = {"prompt": "hello", "seed": 1}


async def ask(client: httpx.AsyncClient, key: str, **changes: Any) -> httpx.Response:
    return await client.post("/v1/completions", json={**PROMPT, **changes}, headers={"idempotency-key": key})


@pytest.mark.parametrize("stream", [False, True])
async def test_the_same_key_and_body_give_the_same_answer_on_any_gateway(
    served: Served, other: Other, stream: bool
) -> None:
    answers = [await ask(client, "k", stream=stream) for client in (served.http, served.http, other.http)]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert len(served.verifier.requests) == 1
    if stream:
        assert len({answer.text for answer in answers}) == 1
    else:
        whole = [answer.json() for answer in answers]
        assert {body["id"] for body in whole} == {f"cmpl-{served.verifier.requests[0].request}"}
        assert [body["choices"] for body in whole] == [whole[0]["choices"]] * 3
        assert whole[0]["choices"][0]["text"] == ANSWER


async def test_another_key_or_none_starts_another_generation(served: Served) -> None:
    for key in ("a", "b", "A"):
        await ask(served.http, key)
    for _ in range(2):
        await served.http.post("/v1/completions", json=PROMPT)
    assert len({request.request for request in served.verifier.requests}) == 5


@pytest.mark.parametrize("change", [{"prompt": "hellO"}, {"seed": 2}, {"stream": True}, {"vendor": 1}])
async def test_another_body_under_the_same_key_is_refused(
    served: Served, other: Other, change: dict[str, Any]
) -> None:
    await ask(served.http, "k")
    answer = await ask(other.http, "k", **change)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (422, "idempotency_key_reused")
    assert error["param"] == "Idempotency-Key"
    assert len(served.verifier.requests) == 1


async def test_targets_in_headers_are_part_of_the_body(served: Served) -> None:
    await ask(served.http, "k")
    headers = {"idempotency-key": "k", "x-slo-tpot-ms": "50"}
    assert (await served.http.post("/v1/completions", json=PROMPT, headers=headers)).status_code == 422


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\there", "caf\xe9"])
async def test_a_malformed_key_is_400(served: Served, key: str) -> None:
    headers = {"idempotency-key": key.encode("latin-1")}
    answer = await served.http.post("/v1/completions", json=PROMPT, headers=headers)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "Idempotency-Key")


@pytest.mark.parametrize("apart", [False, True])
async def test_of_many_at_once_one_generates_and_one_gets_the_answer(
    served: Served, other: Other, apart: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bus, "new_attachment", NEW_ATTACHMENT)
    gate = asyncio.Event()
    served.answers(Reply([[5], [6], [7]], gate=gate))
    clients = [served.http, other.http if apart else served.http] * 3
    calls = [asyncio.create_task(ask(client, "k", return_token_ids=True)) for client in clients]
    await served.until(lambda: sum(call.done() for call in calls) == len(calls) - 1)
    gate.set()
    answers = [await call for call in calls]
    assert len(served.verifier.requests) == 1
    good = [answer.json() for answer in answers if answer.status_code == 200]
    assert [body["choices"][0]["token_ids"] for body in good] == [[5, 6, 7]]
    assert {answer.json()["error"]["code"] for answer in answers if answer.status_code != 200} == {"detached"}


async def test_another_body_at_once_does_not_disturb_the_first(served: Served, other: Other) -> None:
    gate = asyncio.Event()
    served.answers(Reply([[5], [6]], gate=gate))
    first = asyncio.create_task(ask(served.http, "k"))
    await served.until(lambda: served.verifier.requests)
    for client in (served.http, other.http):
        assert (await ask(client, "k", seed=2)).status_code == 422
    gate.set()
    assert (await first).status_code == 200


async def test_another_body_in_the_very_moment_does_not_take_the_stream(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes while the first one's queue entry is on its way."""
    bus = served.gateway._bus
    original, entered, go_on = bus.call, asyncio.Event(), asyncio.Event()

    async def slow(call: Any) -> Any:
        if call.function == "adaserve_enqueue":
            entered.set()
            await go_on.wait()
        return await original(call)

    monkeypatch.setattr(bus, "call", slow)
    first = asyncio.create_task(ask(served.http, "k"))
    await entered.wait()
    second = asyncio.create_task(
        served.gateway.submit(CompletionRequest(**PROMPT, top_k=5), {"idempotency-key": "k"})
    )
    for _ in range(50):
        await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(ApiError, match="another body"):
        await second
    assert (await first).status_code == 200


async def test_a_client_that_left_finds_its_generation_again(served: Served, other: Other) -> None:
    gate = asyncio.Event()
    served.answers(Reply([[5], [6]], gate=gate))
    call = asyncio.create_task(ask(served.http, "k", return_token_ids=True))
    await served.until(lambda: served.verifier.statuses)
    request = served.verifier.requests[0].request
    call.cancel()
    await served.until(lambda: served.redis.zscore(served.keys.abandoned, request))
    gate.set()
    answer = (await ask(other.http, "k", return_token_ids=True)).json()
    assert (answer["id"], answer["choices"][0]["token_ids"]) == (f"cmpl-{request}", [5, 6])
    assert len(served.verifier.requests) == 1


async def test_a_late_farewell_does_not_end_a_later_attempt(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first attempt got no answer from Redis, and asks until it does that its request be left."""
    monkeypatch.setattr(Bus, "new_attachment", NEW_ATTACHMENT)
    bus, gate = served.gateway._bus, asyncio.Event()
    original, failures, is_farewell_free = bus.call, ["once"], asyncio.Event()
    farewells = []

    async def away(call: Any) -> Any:
        if call.function == "adaserve_enqueue" and failures:
            raise BusUnavailable(failures.pop())
        if call.function == "adaserve_leave":
            await is_farewell_free.wait()
            farewells.append(await original(call))
            return farewells[-1]
        return await original(call)

    monkeypatch.setattr(bus, "call", away)
    served.answers(Reply([[5], [6]], gate=gate))
    assert (await ask(served.http, "k")).status_code == 503
    again = asyncio.create_task(ask(served.http, "k", return_token_ids=True))
    await served.until(lambda: served.verifier.statuses)
    is_farewell_free.set()
    await served.until(lambda: farewells)
    gate.set()
    assert (farewells, (await again).json()["choices"][0]["token_ids"]) == ([Left.ATTACHED], [5, 6])


async def test_what_was_cancelled_or_failed_is_not_replayed(served: Served) -> None:
    served.answers(Reply([[5], [6]], gate=asyncio.Event()))
    call = asyncio.create_task(ask(served.http, "k"))
    await served.until(lambda: served.verifier.statuses)
    await served.http.delete(f"/v1/streams/{served.verifier.requests[0].request}")
    assert (await call).status_code == 409
    served.answers(Reply([[5]], finish="error", error="broken"))
    assert (await ask(served.http, "k")).status_code == 500
    served.answers(Reply([[5]]))
    first, again = [(await ask(served.http, "k")).json()["id"] for _ in range(2)]
    assert first == again
    assert len({request.request for request in served.verifier.requests}) == 3


async def test_a_key_does_not_start_generations_for_ever(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "MAX_ATTEMPTS", 2)
    served.answers(Reply([[5]], finish="error", error="broken"))
    codes = [(await ask(served.http, "k")).json()["error"]["code"] for _ in range(3)]
    assert codes == ["generation_failed", "generation_failed", "idempotency_key_exhausted"]


async def test_a_full_queue_is_not_remembered(served: Served) -> None:
    await served.verifier.pause()
    queue = served.keys.requests(2)
    for _ in range(served.gateway.settings.queue_limit):
        served.redis.xadd(queue, {"body": "x"})
    assert (await ask(served.http, "k")).status_code == 429
    served.redis.xtrim(queue, maxlen=0)
    call = asyncio.create_task(ask(served.http, "k"))
    await served.until(lambda: served.redis.xlen(queue))
    call.cancel()


async def test_a_lost_reply_to_enqueue_is_no_second_generation(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = served.gateway._bus
    original, lost = bus.call, []

    async def lossy(call: Any) -> Any:
        if call.function == "adaserve_enqueue" and not lost:
            lost.append(await original(call))
        return await original(call)

    monkeypatch.setattr(bus, "call", lossy)
    answer = await ask(served.http, "k")
    assert (answer.status_code, answer.json()["choices"][0]["text"]) == (200, ANSWER)
    assert len(served.verifier.requests) == 1


def test_ids_tell_tenants_keys_and_attempts_apart() -> None:
    names = [("a", "bc", 0), ("ab", "c", 0), ("a", "bc", 1), ("a", 'b", "c', 0)]
    ids = {idempotency.request_of(*name) for name in names}
    assert len(ids) == 4
    assert all(len(request) == 32 for request in ids)


def test_the_digest_does_not_know_the_order_of_fields() -> None:
    one = CompletionRequest(prompt="x", seed=1, a=1, b=2)
    two = CompletionRequest(b=2, seed=1, a=1, prompt="x")
    assert idempotency.digest_of(one, Slo()) == idempotency.digest_of(two, Slo())
    assert idempotency.digest_of(one, Slo()) != idempotency.digest_of(one, Slo(tpot_ms=5))
