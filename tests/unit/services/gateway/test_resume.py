"""A stream goes on where its client lost it, on any gateway, byte for byte."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from services.gateway import tenancy
from services.gateway.errors import ApiError
from services.gateway.stream_ids import EventIds
from shared import digest as digests
from shared.functions import call
from shared.messages import Request
from shared.scripts import attach
from tests.unit.services.gateway.conftest import Other, Served
from tests.unit.services.gateway.fake_verifier import Reply

CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "stream": True}
PROMPT: dict[str, Any] = {"model": "default", "prompt": "hello", "stream": True}
USAGE: dict[str, Any] = {"stream_options": {"include_usage": True}}
TEXT = "wörld 🙂 hello, how are you 🙂 today? 日本語 wörld"
# Measured by the connection that the request came to; of a joined request it is Redis' clock that tells.
OWN_FIGURES = re.compile(r'"(time_to_first_token_ms)":[0-9.]+')


def events_of(text: str) -> list[str]:
    """Events without comments, and without what only the first connection can measure."""
    return [
        OWN_FIGURES.sub(r'"\1":0', event) for event in text.split("\n\n") if event and not event.startswith(":")
    ]


def position_of(event: str) -> int | None:
    match = re.match(r"id: [0-9a-f]{32}:([0-9]+):[0-9a-f]{8}\n", event)
    return None if match is None else int(match[1])


def id_of(event: str) -> str:
    return event.split("\n")[0].removeprefix("id: ")


def event_at(request: Request, tokens: Sequence[int], position: int) -> str:
    """The id of the event up to this position of an output."""
    prompt = request.prompt.tolist()
    return EventIds(request.request, len(prompt), digests.extend(digests.EMPTY, prompt), tokens).at(position)


def rest_after(events: list[str], position: int) -> list[str]:
    """What follows the text up to a position: later text, and the end, which has the last text's position."""
    told = [i for i, event in enumerate(events) if (found := position_of(event)) is not None and found <= position]
    last = max((i for i in told if '"finish_reason":null' in events[i]), default=-1)
    return events[last + 1 :]


async def resumed(client: httpx.AsyncClient, request: str, last_event_id: str | None) -> httpx.Response:
    headers = {} if last_event_id is None else {"last-event-id": last_event_id}
    return await client.get(f"/v1/streams/{request}", headers=headers)


STREAMS = {
    "chat": ("/v1/chat/completions", CHAT),
    "chat with usage and tokens": ("/v1/chat/completions", {**CHAT, **USAGE, "return_token_ids": True}),
    "completion": ("/v1/completions", PROMPT),
    "completion with usage": ("/v1/completions", {**PROMPT, **USAGE}),
    "completion with tokens": ("/v1/completions", {**PROMPT, "return_token_ids": True}),
    "stop string": ("/v1/completions", {**PROMPT, "stop": "today? x"}),
}


@pytest.mark.parametrize("case", STREAMS)
@pytest.mark.parametrize("size", [1, 3])
async def test_resumed_at_every_position_a_finished_stream_is_the_same(
    served: Served, other: Other, case: str, size: int
) -> None:
    path, body = STREAMS[case]
    words = served.tokenizer.encode(TEXT, special=False)
    served.answers(Reply([words[i : i + size] for i in range(0, len(words), size)]))
    whole = events_of((await served.http.post(path, json=body)).text)
    request = served.verifier.requests[0].request
    assert events_of((await resumed(other.http, request, None)).text) == whole
    ids = {found: id_of(event) for event in whole if (found := position_of(event)) is not None}
    assert len(ids) > 5
    for position, event in ids.items():
        answer = await resumed(other.http, request, event)
        assert events_of(answer.text) == rest_after(whole, position), position


@pytest.mark.parametrize("case", ["chat", "completion with usage", "stop string"])
async def test_resumed_at_every_position_a_running_stream_goes_on(served: Served, other: Other, case: str) -> None:
    """After every event the client goes to the other gateway; all it got is what one connection gets."""
    path, body = STREAMS[case]
    words = served.tokenizer.encode(TEXT, special=False)
    gate = asyncio.Event()
    served.answers(Reply([[word] for word in words], gate=gate))
    clients = [other.http, served.http]
    got: list[str] = []
    release = asyncio.create_task(drip(gate))
    async with served.http.stream("POST", path, json={**body, "adaserve": {"resumable": True}}) as response:
        request = response.headers["x-adaserve-stream"]
        got += await first_event(response)
    while got[-1] != "data: [DONE]" and '"finish_reason":"' not in got[-1]:
        headers = {"last-event-id": id_of(got[-1])}
        client = clients[len(got) % 2]
        async with client.stream("GET", f"/v1/streams/{request}", headers=headers) as response:
            assert response.status_code == 200
            got += await first_event(response)
    got += events_of((await resumed(other.http, request, id_of(got[-1]))).text)[1:]
    release.cancel()
    whole = events_of((await resumed(other.http, request, None)).text)
    assert events_of("\n\n".join(got)) == whole


async def drip(gate: asyncio.Event) -> None:
    """Lets the verifier make one step at a time."""
    while True:
        gate.set()
        await asyncio.sleep(0)
        gate.clear()
        await asyncio.sleep(0.003)


async def first_event(response: httpx.Response) -> list[str]:
    text = ""
    async for chunk in response.aiter_text():
        text += chunk
        events = [event for event in text.split("\n\n")[:-1] if not event.startswith(":")]
        if events:
            return events[:1]
    raise AssertionError(f"no event in {text!r}")


async def test_the_previous_connection_hears_of_it_on_any_gateway(served: Served, other: Other) -> None:
    for client in (other.http, served.http):
        gate = asyncio.Event()
        served.answers(Reply([[5], [6], [7]], gate=gate))
        before = asyncio.create_task(served.http.post("/v1/chat/completions", json=CHAT))
        num_requests = len(served.verifier.requests)
        await served.until(lambda n=num_requests: len(served.verifier.requests) > n)
        request = served.verifier.requests[-1].request
        after = asyncio.create_task(resumed(client, request, None))
        events = events_of((await before).text)
        assert events[-1].startswith("event: error\n")
        assert json.loads(events[-1].partition("data: ")[2])["error"]["code"] == "detached"
        gate.set()
        assert events_of((await after).text)[-1] == "data: [DONE]"
        assert served.status(request) == "finished"


async def test_a_gateway_that_missed_the_news_does_not_take_the_stream_back(served: Served, other: Other) -> None:
    gate = asyncio.Event()
    served.answers(Reply([[5], [6], [7]], gate=gate))
    before = asyncio.create_task(served.http.post("/v1/chat/completions", json=CHAT))
    await served.until(lambda: served.verifier.statuses)
    request = served.verifier.requests[0].request
    # The news is lost, as when the gateway's stream was trimmed.
    taken = attach(served.keys, request=request, gateway="", position=0, detached=b"?", attachment=42)
    assert call(served.redis, taken).status == "running"
    after = asyncio.create_task(resumed(other.http, request, None))
    await served.until(lambda: served.redis.hget(served.keys.request(request), "attachment") == b"43")
    served.gateway._streams.on_recreated()
    assert '"code":"detached"' in (await before).text
    gate.set()
    assert events_of((await after).text)[-1] == "data: [DONE]"


async def test_news_for_an_earlier_connection_do_not_end_a_later_one(served: Served, other: Other) -> None:
    gate = asyncio.Event()
    served.answers(Reply([[5], [6], [7]], gate=gate))
    body = {**CHAT, "adaserve": {"resumable": True}}
    async with served.http.stream("POST", "/v1/chat/completions", json=body) as response:
        request = response.headers["x-adaserve-stream"]
        streams = served.gateway._streams
        dispatch, held = streams._dispatch, []
        streams._dispatch = held.append  # type: ignore[method-assign]
        async with other.http.stream("GET", f"/v1/streams/{request}"):
            pass
        await served.until(lambda: held)
    last = asyncio.create_task(resumed(served.http, request, None))
    await served.until(lambda: served.redis.hget(served.keys.request(request), "attachment") == b"43")
    streams._dispatch = dispatch  # type: ignore[method-assign]
    for entry in held:
        dispatch(entry)
    gate.set()
    assert events_of((await last).text)[-1] == "data: [DONE]"


@pytest.mark.parametrize("stream", ["chatcmpl-{}", "cmpl-{}", "{}"])
async def test_an_answers_id_names_its_stream(served: Served, stream: str) -> None:
    await served.http.post("/v1/chat/completions", json=CHAT)
    request = served.verifier.requests[0].request
    assert (await resumed(served.http, stream.format(request), None)).status_code == 200


@pytest.mark.parametrize("stream", ["0" * 32, "nonsense", "chatcmpl-", "%2e%2e"])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_an_unknown_stream_is_404(served: Served, method: str, stream: str) -> None:
    answer = await served.http.request(method, f"/v1/streams/{stream}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "stream_not_found")


BAD_EVENTS = ["{}", "{}:", "{}:5", "{}:x:00000000", ":5:00000000", "{}:-1:00000000", "{}:5:6", "{}:5:0000000G"]
BAD_EVENTS += ["{}:123456789:00000000", "5", "{}:５:00000000", "{}:5:000000000"]


@pytest.mark.parametrize("event", BAD_EVENTS)
async def test_a_malformed_last_event_id_is_400(served: Served, event: str) -> None:
    await served.http.post("/v1/chat/completions", json=CHAT)
    request = served.verifier.requests[0].request
    answer = await served.http.get(
        f"/v1/streams/{request}", headers={"last-event-id": event.format(request).encode()}
    )
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (400, "Last-Event-ID", "invalid_value")


async def test_positions_that_no_event_had_are_400(served: Served) -> None:
    words = served.tokenizer.encode("a🙂b", special=False)
    served.answers(Reply([words]))
    await served.http.post("/v1/completions", json=PROMPT)
    request = served.verifier.requests[0]
    start, end = len(request.prompt), len(request.prompt) + len(words)
    name, mark = request.request, "0" * 8
    half = event_at(request, words, start + 2)  # inside a character
    for event in (
        f"{name}:{start - 1}:{mark}",
        f"{name}:{start + request.max_tokens + 1}:{mark}",
        half,
        f"{'0' * 32}:{end}:{mark}",
    ):
        answer = await resumed(served.http, request.request, event)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "Last-Event-ID"), event
    assert (await resumed(served.http, request.request, event_at(request, words, end))).status_code == 200


@pytest.mark.parametrize("has_ended", [True, False])
async def test_a_stream_that_has_changed_is_not_joined_in_its_middle(
    served: Served, other: Other, has_ended: bool
) -> None:
    """As after Redis and the first gateway were lost together: the client would get parts of two answers."""
    gate = asyncio.Event()
    words = served.tokenizer.encode("hello, how are you", special=False)
    served.answers(Reply([[word] for word in words], gate=gate))
    if has_ended:
        gate.set()
    body = {**PROMPT, "adaserve": {"resumable": True}}
    async with served.http.stream("POST", "/v1/completions", json=body) as response:
        await first_event(response)
    request = served.verifier.requests[0]
    if has_ended:
        await served.until(lambda: served.status(request.request) == "finished")
    position = len(request.prompt) + 3
    seen = event_at(request, [words[0] + 1, *words[1:]], position)
    joined = asyncio.create_task(resumed(other.http, request.request, seen))
    if not has_ended:
        key = served.keys.request(request.request)
        await served.until(lambda: served.redis.hget(key, "attachment") == b"42")
        gate.set()
    answer = await joined
    assert answer.status_code == (409 if has_ended else 200)
    assert '"code":"stream_changed"' in answer.text
    assert '"text"' not in answer.text
    whole = events_of((await resumed(other.http, request.request, None)).text)  # from its beginning it can be read
    assert whole[-1] == "data: [DONE]"


async def test_a_wrong_position_does_not_cost_the_stream(served: Served) -> None:
    words = served.tokenizer.encode("a🙂b", special=False)
    gate = asyncio.Event()
    served.answers(Reply([words[:-1], words[-1:]], gate=gate))
    body = {
        **PROMPT,
        "adaserve": {"resumable": True},
    }  # the connection's end may be heard of before the next comes
    async with served.http.stream("POST", "/v1/completions", json=body) as response:
        request = response.headers["x-adaserve-stream"]
        await first_event(response)
        asked = served.verifier.requests[0]
        start = len(asked.prompt)
        assert (await resumed(served.http, request, event_at(asked, words, start + 2))).status_code == 400
    after = asyncio.create_task(resumed(served.http, request, event_at(asked, words, start + 1)))
    await served.until(lambda: served.redis.hget(served.keys.request(request), "attachment") == b"43")
    gate.set()
    assert events_of((await after).text)[-1] == "data: [DONE]"


async def test_a_position_that_redis_has_forgotten_is_waited_for(served: Served, other: Other) -> None:
    """The same tokens come again, and those the client has seen are not told twice."""
    gate = asyncio.Event()
    words = served.tokenizer.encode("hello, how are you", special=False)
    served.answers(Reply([[word] for word in words], gate=gate))
    body = {**PROMPT, "adaserve": {"resumable": True}}
    async with served.http.stream("POST", "/v1/completions", json=body) as response:
        request = response.headers["x-adaserve-stream"]
        await first_event(response)
    start = len(served.verifier.requests[0].prompt)
    after = asyncio.create_task(
        resumed(other.http, request, event_at(served.verifier.requests[0], words, start + 3))
    )
    await served.until(lambda: served.redis.hget(served.keys.request(request), "attachment") == b"42")
    gate.set()
    got = events_of((await after).text)
    whole = events_of((await resumed(other.http, request, None)).text)
    assert got == rest_after(whole, start + 3)
    assert len(got) == len(words) - 3 + 2  # the end, and that it was all


async def test_a_stream_that_ended_before_what_was_sent_has_changed(served: Served, other: Other) -> None:
    """Redis forgot its last tokens, and nobody came back in time for the rest."""
    served.answers(Reply([[5], [6]], gate=asyncio.Event()))
    body = asyncio.create_task(served.http.post("/v1/chat/completions", json=CHAT))
    await served.until(lambda: served.verifier.statuses)
    request = served.verifier.requests[0]
    await other.http.delete(f"/v1/streams/{request.request}")
    await body
    answer = await resumed(other.http, request.request, event_at(request, [5, 6], len(request.prompt) + 2))
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "stream_changed")


async def test_only_its_tenant_may_see_or_end_a_stream(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    await served.http.post("/v1/chat/completions", json=CHAT)
    request = served.verifier.requests[0].request
    monkeypatch.setattr(tenancy, "tenant_of", lambda headers, policy: "somebody else")
    for method in ("GET", "DELETE"):
        answer = await served.http.request(method, f"/v1/streams/{request}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "stream_not_found")
    with pytest.raises(ApiError):
        tenancy.check_access("a", "b")


async def test_a_cancelled_stream_tells_so_when_resumed(served: Served, other: Other) -> None:
    served.answers(Reply([[5], [6]], gate=asyncio.Event()))
    body = asyncio.create_task(served.http.post("/v1/chat/completions", json=CHAT))
    await served.until(lambda: served.verifier.statuses)
    request = served.verifier.requests[0].request
    assert (await other.http.delete(f"/v1/streams/{request}")).json()["status"] == "cancelled"
    assert '"code":"cancelled"' in (await body).text
    events = events_of((await resumed(other.http, request, None)).text)
    assert len(events) == 3  # the role, the text, the error
    assert '"code":"cancelled"' in events[-1]


async def test_an_unreadable_form_is_an_error_of_ours(served: Served) -> None:
    await served.http.post("/v1/chat/completions", json=CHAT)
    request = served.verifier.requests[0].request
    for value in (b"\xc1", b"\x80", b"\x81\xa1v\x02"):
        served.redis.hset(served.keys.request(request), "form", value)
        answer = await resumed(served.http, request, None)
        assert (answer.status_code, answer.json()["error"]["code"]) == (500, "request_lost")
    served.redis.hdel(served.keys.request(request), "form")
    assert (await resumed(served.http, request, None)).status_code == 500


async def test_what_is_committed_while_a_connection_joins_is_not_missed(
    served: Served, other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last event overtakes the answer to attach, which does not have it; no other event will tell."""
    gate = asyncio.Event()
    served.answers(Reply([[5], [6]], gate=gate))
    body = {**CHAT, "adaserve": {"resumable": True}}
    async with served.http.stream("POST", "/v1/chat/completions", json=body) as response:
        request = response.headers["x-adaserve-stream"]
        await served.until(lambda: served.verifier.statuses)
    bus, original = other.gateway._bus, other.gateway._bus.attach
    dispatch, heard = other.gateway._streams._dispatch, []

    def hear(entry: Any) -> None:
        heard.append(entry)
        dispatch(entry)

    async def slow(stream: Any) -> Any:
        found = await original(stream)
        gate.set()
        await served.until(lambda: heard)
        return found

    monkeypatch.setattr(other.gateway._streams, "_dispatch", hear)
    monkeypatch.setattr(bus, "attach", slow)
    monkeypatch.setattr("services.gateway.open_stream.FIRST_CHECK_S", 3600.0)
    answer = await resumed(other.http, request, None)
    assert events_of(answer.text)[-1] == "data: [DONE]"


async def test_a_request_is_counted_once_however_often_it_is_read(served: Served, other: Other) -> None:
    gate = asyncio.Event()
    served.answers(Reply([[5], [6], [7]], gate=gate))
    body = {**CHAT, "adaserve": {"resumable": True, "slo": {"tpot_ms": 60_000}}}
    async with served.http.stream("POST", "/v1/chat/completions", json=body) as response:
        request = response.headers["x-adaserve-stream"]
        await first_event(response)
    running = asyncio.create_task(resumed(other.http, request, None))
    await served.until(lambda: served.redis.hget(served.keys.request(request), "attachment") == b"42")
    gate.set()
    await running
    for _ in range(2):
        await resumed(other.http, request, None)
    metrics = (await served.http.get("/metrics")).text
    assert 'adaserve_slo_requests_total{met="true",slo_class="custom"} 1.0' in metrics
    assert 'route="/v1/streams",status="200"' in metrics


async def test_figures_of_a_joined_request_are_those_of_redis(served: Served, other: Other) -> None:
    path, body = STREAMS["completion with usage"]
    whole = events_of((await served.http.post(path, json=body)).text)
    request = served.verifier.requests[0].request
    answer = await resumed(other.http, request, None)
    assert events_of(answer.text) == whole
    metrics = json.loads(answer.text.split("\n\n")[-3].partition("data: ")[2])["metrics"]
    fields = served.redis.hmget(served.keys.request(request), "enqueued_ms", "first_token_ms", "last_token_ms")
    queued, first, last = (float(value or 0) for value in fields)
    assert metrics["time_to_first_token_ms"] == pytest.approx(first - queued, abs=2e-3)
    assert metrics["generation_time_ms"] == pytest.approx(last - first, abs=2e-3)
