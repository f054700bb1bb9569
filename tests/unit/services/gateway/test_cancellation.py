"""A client that goes away is cancelled, in every phase; a request never waits for what cannot come."""

from __future__ import annotations

import asyncio
import gc
import json
from functools import partial
from typing import Any

import pytest
import redis.exceptions as raised
from openai import APIError

from services.gateway.schemas import CompletionRequest
from shared import codec
from shared.errors import BusUnavailable
from shared.messages import ControlEvent
from tests.unit.services.gateway.conftest import Served
from tests.unit.services.gateway.fake_verifier import Reply

CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}]}


def control_events(served: Served) -> list[ControlEvent]:
    entries: Any = served.redis.xrange(served.keys.control)
    return [codec.decode(ControlEvent, fields[b"body"]) for _, fields in entries]


def _is_cancelled(served: Served, request: str) -> bool:
    return served.status(request) == "cancelled"


async def test_a_client_that_leaves_a_stream_is_cancelled(served: Served) -> None:
    gate = asyncio.Event()
    served.answers(Reply([[5], [6], [7]], gate=gate))
    async with served.http.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True}) as response:
        async for line in response.aiter_lines():
            if '"content":"' in line and '"content":""' not in line:
                break
    request = served.verifier.requests[0].request
    await served.until(lambda: served.status(request) == "cancelled")
    await served.until(lambda: control_events(served))
    assert [(event.kind, event.subject) for event in control_events(served)] == [("cancel", request)]
    gate.set()
    await served.until(lambda: "CANCELLED" in served.verifier.statuses)
    assert served.gateway._streams._open == {}


async def test_a_client_that_leaves_before_its_whole_answer_is_cancelled(served: Served) -> None:
    served.answers(Reply([[5], [6]], gate=asyncio.Event()))
    call = asyncio.create_task(served.http.post("/v1/chat/completions", json=CHAT))
    await served.until(lambda: served.verifier.requests)
    call.cancel()
    request = served.verifier.requests[0].request
    await served.until(lambda: served.status(request) == "cancelled")
    assert served.gateway._streams._open == {}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_while_queued_is_taken_off_the_queue(served: Served, stream: bool) -> None:
    await served.verifier.pause()
    call = asyncio.create_task(served.http.post("/v1/chat/completions", json={**CHAT, "stream": stream}))
    queue = served.keys.requests(2)
    await served.until(lambda: served.redis.xlen(queue))
    entries: Any = served.redis.xrange(queue)
    request = entries[0][1][b"body"].decode()
    call.cancel()
    await served.until(lambda: served.redis.xlen(queue) == 0)
    assert served.status(request) == "cancelled"


async def test_a_handler_cancelled_during_enqueue_is_cancelled_after_it(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    await served.verifier.pause()
    bus = served.gateway._bus
    original, entered, go_on = bus.call, asyncio.Event(), asyncio.Event()

    async def slow(call: Any) -> Any:
        if call.function == "adaserve_enqueue":
            entered.set()
            await go_on.wait()
        return await original(call)

    monkeypatch.setattr(bus, "call", slow)
    task = asyncio.create_task(served.gateway.submit(CompletionRequest(prompt="hello"), {}))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert served.redis.keys(served.keys.request("*")) == []
    go_on.set()
    await served.until(lambda: served.redis.keys(served.keys.request("*")))
    key = served.redis.keys(served.keys.request("*"))[0]
    await served.until(lambda: served.redis.hget(key, "status") == b"cancelled")
    assert served.redis.xlen(served.keys.requests(2)) == 0


@pytest.mark.parametrize("options", [{"verifier_patience_s": 0.3}])
async def test_without_a_verifier_waiting_ends_with_an_error(served: Served, options: dict[str, Any]) -> None:
    served.answers(Reply([[5], [6]], gate=asyncio.Event()))
    stream = await served.openai.chat.completions.create(**CHAT, stream=True)
    whole = asyncio.create_task(served.http.post("/v1/chat/completions", json=CHAT))
    await served.until(lambda: len(served.verifier.requests) == 2)
    await served.verifier.stop()
    with pytest.raises(APIError, match="no verifier"):
        async for _ in stream:
            pass
    answer = await whole
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
    assert answer.headers["retry-after"] == "1"
    for request in served.verifier.requests:
        await served.until(partial(_is_cancelled, served, request.request))
    refused = await served.http.post("/v1/chat/completions", json=CHAT)
    assert refused.status_code == 503
    await served.verifier.start()


@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_of_the_verifier_reaches_the_client(served: Served, stream: bool) -> None:
    served.answers(Reply([[5], [6]], finish="error", error="the model broke"))
    answer = await served.http.post("/v1/chat/completions", json={**CHAT, "stream": stream})
    if stream:
        assert answer.text.rpartition("event: error\n")[2].startswith(
            'data: {"error":{"message":"the model broke"'
        )
        assert answer.text.endswith("\n\n")
    else:
        assert (answer.status_code, answer.json()["error"]["message"]) == (500, "the model broke")


@pytest.mark.parametrize("options", [{"keep_alive_s": 0.2}])
async def test_a_silent_stream_is_kept_alive(served: Served, options: dict[str, Any]) -> None:
    gate = asyncio.Event()
    served.answers(Reply([[5], [6]], gate=gate))
    lines = []
    async with served.http.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True}) as response:
        async for line in response.aiter_lines():
            lines.append(line)
            if line == ": keep-alive":
                gate.set()
    assert ": keep-alive" in lines
    assert lines[-2:] == ["data: [DONE]", ""]


async def test_lost_events_are_read_from_the_journal(served: Served) -> None:
    words = served.tokenizer.encode("how are you today, world?", special=False)
    served.answers(Reply([words[:1], words[1:2], words[2:3], words[3:]], unreadable=frozenset({1})))
    answer = await served.http.post("/v1/completions", json={"prompt": "hello", "return_token_ids": True})
    assert answer.json()["choices"][0]["token_ids"] == words


async def test_a_lost_last_event_is_found_by_asking(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    served.answers(Reply([[5], [6, 7]], finish="stop", unreadable=frozenset({0})))
    streams = served.gateway._streams
    monkeypatch.setattr(streams, "_dispatch", lambda entry: None)  # every event is lost
    answer = await served.http.post("/v1/completions", json={"prompt": "hello", "return_token_ids": True})
    assert answer.json()["choices"][0]["token_ids"] == [5, 6, 7]
    assert answer.json()["choices"][0]["finish_reason"] == "stop"


async def test_nobody_complains_of_an_error_that_its_client_has_not_waited_for(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus, entered, go_on, complaints = served.gateway._bus, asyncio.Event(), asyncio.Event(), []
    original = bus.call

    async def away(call: Any) -> Any:
        if call.function != "adaserve_enqueue":
            return await original(call)
        entered.set()
        await go_on.wait()
        raise BusUnavailable("gone")

    monkeypatch.setattr(bus, "call", away)
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context["message"]))
    asking = asyncio.create_task(served.gateway.submit(CompletionRequest(prompt="hello"), {}))
    await entered.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    go_on.set()
    await served.until(lambda: not bus._farewells)
    del asking
    gc.collect()
    assert complaints == []


async def test_a_request_whose_enqueue_was_not_answered_is_healed_too(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.answers(Reply([[5], [6, 7]], finish="stop", unreadable=frozenset({0})))
    client = served.gateway._bus._client
    execute = client.execute_command
    lost: list[Any] = []

    async def lose_first_answer(*words: Any) -> Any:
        answer = await execute(*words)
        if words[:2] == ("FCALL", "adaserve_enqueue") and not lost:
            lost.append(answer)
            raise raised.ConnectionError("reply lost")
        return answer

    monkeypatch.setattr(client, "execute_command", lose_first_answer)
    monkeypatch.setattr(served.gateway._streams, "_dispatch", lambda entry: None)  # every event is lost
    answer = await served.http.post("/v1/completions", json={"prompt": "hello", "return_token_ids": True})
    assert lost == [b"OK"]
    assert answer.json()["choices"][0]["token_ids"] == [5, 6, 7]


async def test_prompts_never_reach_the_log(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", logger="services")
    canary = "canary-in-a-coal-mine"
    served.answers(Reply([served.tokenizer.encode(canary, special=False)]))
    for extra in ({"user": canary}, {"stop": [canary] * 20}, {canary: 1}):
        await served.http.post("/v1/completions", json={"prompt": canary, **extra})
    assert canary not in caplog.text
    assert canary not in (await served.http.get("/metrics")).text


async def test_redis_away_at_the_door_is_503(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(call: Any) -> Any:
        raise BusUnavailable("gone")

    with monkeypatch.context() as patch:
        patch.setattr(served.gateway._bus, "call", away)
        answer = await served.http.post("/v1/chat/completions", json=CHAT)
    assert (answer.status_code, answer.json()["error"]["type"]) == (503, "service_unavailable_error")
    assert "retry-after" in answer.headers


async def test_a_bug_is_a_500_in_the_one_shape(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: Any) -> Any:
        raise RuntimeError("secret prompt")

    monkeypatch.setattr(served.gateway, "submit", broken)
    answer = await served.http.post("/v1/chat/completions", json=CHAT, headers={"x-request-id": "me"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
    assert answer.headers["x-request-id"] == "me"
    assert "secret" not in answer.text


async def test_a_bug_inside_a_stream_is_an_error_event(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    from services.gateway.output import OutputText

    def broken(*_: Any) -> Any:
        raise RuntimeError("secret prompt")

    monkeypatch.setattr(OutputText, "push", broken)
    answer = await served.http.post("/v1/chat/completions", json={**CHAT, "stream": True})
    last = answer.text.strip().split("\n\n")[-1]
    assert last.startswith("event: error\ndata: ")
    assert json.loads(last.partition("data: ")[2])["error"]["code"] == "internal_error"
    request = served.verifier.requests[0].request
    await served.until(lambda: served.status(request) in ("cancelled", "finished"))


async def test_after_trouble_with_redis_every_journal_is_read(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, streams = asyncio.Event(), served.gateway._streams
    served.answers(Reply([[5], [6]], gate=gate))
    original = streams._read_entries
    broken = False

    async def read() -> Any:
        entries = await original()
        if served.verifier.requests and not broken:
            await asyncio.sleep(0.01)
            raise BusUnavailable("connection lost with the reply")
        return entries

    monkeypatch.setattr(streams, "_read_entries", read)
    call = asyncio.create_task(
        served.http.post("/v1/completions", json={"prompt": "hello", "return_token_ids": True})
    )
    await served.until(lambda: served.verifier.statuses)
    gate.set()
    await served.until(lambda: len(served.verifier.statuses) == 2)
    served.redis.xtrim(served.keys.tokens("gateway.test"), maxlen=0)
    broken = True
    assert (await call).json()["choices"][0]["token_ids"] == [5, 6]


async def test_an_end_that_contradicts_what_was_sent_is_an_error(served: Served) -> None:
    gate = asyncio.Event()
    served.answers(Reply([[5], [6], [7]], gate=gate))
    stream = await served.openai.completions.create(model="tiny", prompt="hello", stream=True)
    opened = served.gateway._streams._open
    await served.until(lambda: any(one.delivery.tokens for one in opened.values()))
    delivery = next(iter(opened.values())).delivery
    delivery.digest = bytes(8)  # as if the client had been shown something else
    gate.set()
    with pytest.raises(APIError, match="with other tokens"):
        async for _ in stream:
            pass


async def test_content_parts_of_text_are_joined(served: Served) -> None:
    parts = [{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}]
    body = {"messages": [{"role": "user", "content": parts}]}
    assert (await served.http.post("/v1/chat/completions", json=body)).status_code == 200
    prompt = served.verifier.requests[0].prompt.tolist()
    assert "user: hello\n" in served.tokenizer.decode(prompt)
