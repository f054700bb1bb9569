"""Redis forgets, wholly or in part: the gateway puts back what its clients have seen, and somebody goes on."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from services.gateway.schemas import CompletionRequest
from shared.errors import BusUnavailable
from tests.unit.services.gateway.conftest import Other, Served
from tests.unit.services.gateway.fake_verifier import Reply
from tests.unit.services.gateway.test_cancellation import control_events
from tests.unit.services.gateway.test_resume import events_of, resumed

PROMPT: dict[str, Any] = {"prompt": "hello", "stream": True, "return_token_ids": True}
TOKENS = [[5], [6, 7], [8], [9]]
WHOLE = [token for group in TOKENS for token in group]


def tokens_of(answer: Any) -> list[int]:
    return list(answer.json()["choices"][0]["token_ids"])


async def asked(served: Served, gate: asyncio.Event | None) -> tuple[asyncio.Task[Any], str]:
    """A whole answer that waits for the gate after its first commit."""
    served.answers(Reply(TOKENS, gate=gate))
    call = asyncio.create_task(served.http.post("/v1/completions", json={**PROMPT, "stream": False}))
    streams = served.gateway._streams
    await served.until(lambda: any(stream.delivery.tokens for stream in streams._open.values()))
    return call, served.verifier.requests[0].request


@pytest.mark.parametrize("times", [1, 2])
async def test_a_request_in_flight_survives_flushall_without_its_verifier(served: Served, times: int) -> None:
    """The verifier of the first claim is gone with its state; another claim goes on from the client's prefix."""
    gates = [asyncio.Event() for _ in range(times + 1)]
    call, request = await asked(served, gates[0])
    for number in range(times):
        served.answers(Reply(TOKENS, gate=gates[number + 1]))
        claims = len(served.verifier.requests)
        served.redis.flushall()
        await served.until(lambda n=claims: len(served.verifier.requests) > n)
    served.answers(Reply(TOKENS))
    for gate in gates:
        gate.set()
    answer = await call
    assert tokens_of(answer) == WHOLE
    assert served.status(request) == "finished"
    metrics = (await served.http.get("/metrics")).text
    assert 'adaserve_restored_total{status="OK"}' in metrics


async def test_a_restored_request_keeps_its_times(served: Served) -> None:
    gate = asyncio.Event()
    call, request = await asked(served, gate)
    await asyncio.sleep(0.1)
    names = ("enqueued_ms", "first_token_ms", "last_token_ms")
    before = [float(ms) for ms in served.redis.hmget(served.keys.request(request), *names)]
    gate2 = asyncio.Event()
    served.answers(Reply(TOKENS, gate=gate2))
    served.redis.flushall()
    await served.until(lambda: len(served.verifier.requests) == 2)
    after = [float(ms) for ms in served.redis.hmget(served.keys.request(request), *names)]
    assert after == pytest.approx(before, abs=50.0)
    assert after[1:] == pytest.approx(before[1:], abs=1e-2)
    served.answers(Reply(TOKENS))
    gate.set()
    gate2.set()
    assert tokens_of(await call) == WHOLE


async def test_a_queued_request_is_queued_again(served: Served) -> None:
    await served.verifier.stop()
    call = asyncio.create_task(served.http.post("/v1/completions", json={**PROMPT, "stream": False}))
    await served.until(lambda: served.redis.xlen(served.keys.requests(2)))
    served.answers(Reply(TOKENS))
    served.redis.flushall()
    await served.verifier.start()
    assert tokens_of(await call) == WHOLE
    assert len(served.verifier.requests) == 1


async def test_what_a_client_has_seen_beats_what_redis_remembers(served: Served) -> None:
    """Redis comes back from an older state; the verifier that then goes on draws other tokens."""
    gate = asyncio.Event()
    call, request = await asked(served, gate)
    hash_, journal = served.keys.request(request), served.keys.journal(request)
    before: Any = served.redis.hgetall(hash_)
    delivery = served.gateway._streams._open[request].delivery
    served.redis.delete(journal)
    served.redis.xadd(journal, {"tokens": np.array([99], "<u4").tobytes()}, id=f"{delivery.position}-0")
    served.redis.hset(hash_, mapping={**before, "digest": "00" * 8})
    served.answers(Reply(TOKENS))
    served.gateway._streams.on_recreated()
    assert tokens_of(await call) == WHOLE
    gate.set()


async def test_a_lost_reply_to_enqueue_does_not_keep_a_request_from_being_restored(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second try hears that the id is known: by this very request, whose connection counts like any other."""
    bus = served.gateway._bus
    original, lost = bus.call, []

    async def lossy(call: Any) -> Any:
        if call.function == "adaserve_enqueue" and not lost:
            lost.append(await original(call))
        return await original(call)

    monkeypatch.setattr(bus, "call", lossy)
    gate = asyncio.Event()
    call, _ = await asked(served, gate)
    served.answers(Reply(TOKENS))
    served.redis.flushall()
    assert tokens_of(await call) == WHOLE
    gate.set()


async def test_a_lost_journal_is_written_again(served: Served) -> None:
    gate = asyncio.Event()
    call, request = await asked(served, gate)
    served.redis.delete(served.keys.journal(request))
    served.answers(Reply(TOKENS))
    gate.set()
    served.gateway._streams.on_recreated()
    assert tokens_of(await call) == WHOLE


async def test_an_ended_request_is_not_brought_back(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last event has arrived; its client reads slowly while Redis forgets."""
    monkeypatch.setattr("services.gateway.open_stream.RESTORE_AFTER_S", 0.0)
    served.answers(Reply(TOKENS))
    answer = await served.gateway.submit(CompletionRequest(prompt="hello"), {})
    [completion] = answer.completions
    streams = served.gateway._streams
    stream = streams._open[completion.id]
    await served.until(lambda: stream.delivery.end)
    served.redis.flushall()
    streams.on_recreated()
    await served.until(lambda: not stream.is_attaching)
    assert served.redis.keys(served.keys.request("*")) == []
    assert [piece.position async for piece in completion.pieces(1.0) if piece is not None]
    completion.close()


async def test_the_form_of_the_answer_survives(served: Served, other: Other) -> None:
    gate = asyncio.Event()
    served.answers(Reply(TOKENS, gate=gate))
    body = {**PROMPT, "stream_options": {"include_usage": True}}
    call = asyncio.create_task(served.http.post("/v1/completions", json=body))
    await served.until(lambda: served.verifier.statuses)
    request = served.verifier.requests[0].request
    served.answers(Reply(TOKENS))
    served.redis.flushall()
    first = events_of((await call).text)
    gate.set()
    again = events_of((await resumed(other.http, request, None)).text)
    assert [event.partition("\n")[2][:60] for event in again[-3:]] == [
        event.partition("\n")[2][:60] for event in first[-3:]
    ]
    assert len(served.verifier.requests) == 2


async def test_a_restore_that_redis_does_not_take_is_tried_again(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = asyncio.Event()
    call, _ = await asked(served, gate)
    bus = served.gateway._bus
    original, failures = bus.call, [2]

    async def away(request: Any) -> Any:
        if request.function == "adaserve_reseed" and failures[0]:
            failures[0] -= 1
            raise BusUnavailable("gone")
        return await original(request)

    monkeypatch.setattr(bus, "call", away)
    served.answers(Reply(TOKENS))
    served.redis.flushall()
    assert tokens_of(await call) == WHOLE
    assert failures == [0]
    gate.set()


async def test_a_faster_verifier_is_heard(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """It restores the request between the gateway's look and its own attempt."""
    gate = asyncio.Event()
    call, request = await asked(served, gate)
    monkeypatch.setattr("services.gateway.open_stream.RESTORE_AFTER_S", 0.0)
    monkeypatch.setattr("services.gateway.open_stream.FIRST_CHECK_S", 3600.0)
    hash_, journal = served.keys.request(request), served.keys.journal(request)
    dumps = {key: served.redis.dump(key) for key in (hash_, journal)}
    bus = served.gateway._bus
    original = bus.call

    async def late(request: Any) -> Any:
        if request.function == "adaserve_reseed":
            for key, dump in dumps.items():
                served.redis.restore(key, 0, dump, replace=True)
            served.answers(Reply(TOKENS))
            gate.set()
            await served.until(lambda: served.redis.hget(hash_, "status") == b"finished")
        return await original(request)

    monkeypatch.setattr(bus, "call", late)
    served.redis.delete(hash_, journal)
    monkeypatch.setattr(served.gateway._streams, "_dispatch", lambda entry: None)  # no event will tell
    served.gateway._streams.on_recreated()
    assert tokens_of(await call) == WHOLE
    assert len(served.verifier.requests) == 1


async def test_a_cancel_reaches_verifiers_that_hold_what_redis_forgot(served: Served) -> None:
    gate = asyncio.Event()
    call, request = await asked(served, gate)
    served.redis.delete(served.keys.request(request), served.keys.journal(request))
    call.cancel()
    await served.until(lambda: [event.subject for event in control_events(served)] == [request])
