"""Who may leave and come back; who ends what nobody came back to; cancelling by name."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from shared.errors import BusUnavailable
from shared.functions import call
from shared.scripts import Cancelled, cancel
from tests.unit.services.gateway.conftest import Other, Served
from tests.unit.services.gateway.fake_verifier import Reply
from tests.unit.services.gateway.test_cancellation import control_events
from tests.unit.services.gateway.test_resume import events_of, first_event, resumed

CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "stream": True}
RESUMABLE: dict[str, Any] = {**CHAT, "adaserve": {"resumable": True}}


async def left(served: Served, body: dict[str, Any] = RESUMABLE) -> tuple[str, asyncio.Event]:
    """A request whose client is gone after the first event."""
    gate = asyncio.Event()
    served.answers(Reply([[5], [6], [7]], gate=gate))
    async with served.http.stream("POST", "/v1/chat/completions", json=body) as response:
        await first_event(response)
        await served.until(lambda: served.verifier.statuses)
    return served.verifier.requests[-1].request, gate


def is_waiting(served: Served, request: str) -> bool:
    return served.redis.zscore(served.keys.abandoned, request) is not None


async def test_a_resumable_request_goes_on_without_its_client(served: Served, other: Other) -> None:
    request, gate = await left(served)
    await served.until(lambda: is_waiting(served, request))
    gate.set()
    await served.until(lambda: served.status(request) == "finished")
    answer = await resumed(other.http, request, None)
    assert events_of(answer.text)[-1] == "data: [DONE]"


@pytest.mark.parametrize("options", [{"resume_grace_s": 0.05}])
async def test_after_its_grace_it_is_cancelled_by_any_gateway(
    served: Served, other: Other, options: dict[str, Any]
) -> None:
    """The gateway that its client left is dead by then."""
    served.gateway._tasks[0].cancel()  # its reaper
    request, gate = await left(served)
    await served.until(lambda: served.status(request) == "cancelled")
    assert not is_waiting(served, request)
    await served.until(lambda: [event.subject for event in control_events(served)] == [request])
    gate.set()
    await served.until(lambda: "CANCELLED" in served.verifier.statuses)


async def test_coming_back_ends_the_grace(served: Served, other: Other) -> None:
    request, gate = await left(served)
    await served.until(lambda: is_waiting(served, request))
    after = asyncio.create_task(resumed(other.http, request, None))
    await served.until(lambda: not is_waiting(served, request))
    # The grace was over in the very moment it came back: the cancel is on its way, and too late.
    late = cancel(served.keys, request=request, event=b"x", only_overdue=True)
    assert call(served.redis, late) is Cancelled.ATTACHED
    gate.set()
    assert events_of((await after).text)[-1] == "data: [DONE]"


@pytest.mark.parametrize("body", [CHAT, RESUMABLE])
async def test_a_client_that_moved_on_is_not_cancelled_by_its_old_gateway(
    served: Served, other: Other, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old gateway notices that its client has left before it hears where to."""
    monkeypatch.setattr(served.gateway._streams, "_dispatch", lambda entry: None)
    gate = asyncio.Event()
    served.answers(Reply([[5], [6], [7]], gate=gate))
    async with served.http.stream("POST", "/v1/chat/completions", json=body) as response:
        request = response.headers["x-adaserve-stream"]
        after = asyncio.create_task(resumed(other.http, request, None))
        await served.until(lambda: served.redis.hget(served.keys.request(request), "attachment") == b"42")
    farewells = served.gateway._bus._farewells
    await served.until(lambda: served.gateway._streams._open == {} and not farewells)
    assert (served.status(request), is_waiting(served, request)) == ("running", False)
    gate.set()
    assert events_of((await after).text)[-1] == "data: [DONE]"


async def test_a_resumed_stream_is_cancelled_as_it_would_have_been(served: Served, other: Other) -> None:
    served.answers(Reply([[5], [6]], gate=asyncio.Event()))
    async with served.http.stream("POST", "/v1/chat/completions", json=CHAT) as response:
        request = response.headers["x-adaserve-stream"]
        async with other.http.stream("GET", f"/v1/streams/{request}") as again:
            await first_event(again)
    await served.until(lambda: served.status(request) == "cancelled")


async def test_leaving_is_repeated_until_redis_answers(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    bus = served.gateway._bus
    original, failures = bus.call, [2]

    async def away(request: Any) -> Any:
        if request.function == "adaserve_leave" and failures[0]:
            failures[0] -= 1
            raise BusUnavailable("gone")
        return await original(request)

    monkeypatch.setattr(bus, "call", away)
    monkeypatch.setattr("services.gateway.bus.AGAIN_S", 0.01)
    request, _ = await left(served)
    await served.until(lambda: is_waiting(served, request))
    assert failures == [0]


async def test_the_reaper_outlives_redis(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    async def away() -> None:
        tried.append(1)
        raise BusUnavailable("gone")

    monkeypatch.setattr(served.gateway._bus, "cancel_overdue", away)
    await served.until(lambda: len(tried) > 1)
    assert served.gateway.is_alive


async def test_clients_of_a_gateway_that_died_have_a_grace_too(served: Served, other: Other) -> None:
    """Its stream has gone, so a commit finds nobody to tell."""
    gate = asyncio.Event()
    served.answers(Reply([[5], [6], [7], [8]], gate=gate))
    body = asyncio.create_task(served.http.post("/v1/chat/completions", json=CHAT))
    await served.until(lambda: served.verifier.statuses)
    request = served.verifier.requests[0].request
    served.redis.hset(served.keys.request(request), "gateway", "gateway.dead")
    gate.set()
    await served.until(lambda: served.redis.zscore(served.keys.abandoned, request))
    after = await resumed(other.http, request, None)
    assert events_of(after.text)[-1] == "data: [DONE]"
    assert not is_waiting(served, request) or served.status(request) == "finished"
    body.cancel()


async def test_a_stream_is_cancelled_by_name_once_and_for_all(served: Served, other: Other) -> None:
    gate = asyncio.Event()
    served.answers(Reply([[5], [6]], gate=gate))
    body = asyncio.create_task(served.http.post("/v1/chat/completions", json=RESUMABLE))
    await served.until(lambda: served.verifier.statuses)
    request = served.verifier.requests[0].request
    for name in (request, f"chatcmpl-{request}"):
        answer = await other.http.delete(f"/v1/streams/{name}")
        assert (answer.status_code, answer.json()) == (
            200,
            {"id": request, "object": "stream", "status": "cancelled"},
        )
    assert '"code":"cancelled"' in (await body).text
    assert [event.subject for event in control_events(served)] == [request]
    gate.set()
    await served.until(lambda: "CANCELLED" in served.verifier.statuses)


async def test_a_queued_stream_is_taken_off_the_queue(served: Served, other: Other) -> None:
    await served.verifier.pause()
    body = asyncio.create_task(served.http.post("/v1/chat/completions", json=RESUMABLE))
    queue = served.keys.requests(2)
    await served.until(lambda: served.redis.xlen(queue))
    entries: Any = served.redis.xrange(queue)
    await other.http.delete(f"/v1/streams/{entries[0][1][b'body'].decode()}")
    assert served.redis.xlen(queue) == 0
    assert '"code":"cancelled"' in (await body).text


async def test_cancelling_what_has_ended_changes_nothing(served: Served) -> None:
    served.answers(Reply([[5]]))
    await served.http.post("/v1/chat/completions", json=CHAT)
    request = served.verifier.requests[0].request
    assert (await served.http.delete(f"/v1/streams/{request}")).json()["status"] == "finished"
    assert events_of((await resumed(served.http, request, None)).text)[-1] == "data: [DONE]"


@pytest.mark.parametrize(("method", "function"), [("GET", "attach"), ("DELETE", "cancel"), ("GET", None)])
async def test_redis_away_is_503(
    served: Served, monkeypatch: pytest.MonkeyPatch, method: str, function: str | None
) -> None:
    await served.http.post("/v1/chat/completions", json=CHAT)
    bus = served.gateway._bus

    async def away(*_: Any, **__: Any) -> Any:
        raise BusUnavailable("gone")

    monkeypatch.setattr(bus, function or "stored", away)
    answer = await served.http.request(method, f"/v1/streams/{served.verifier.requests[0].request}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_a_request_that_expires_meanwhile_is_404(
    served: Served, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    await served.http.post("/v1/chat/completions", json=CHAT)
    request = served.verifier.requests[0].request
    bus = served.gateway._bus
    original = bus.stored

    async def expiring(name: str) -> Any:
        found = await original(name)
        served.redis.delete(served.keys.request(name))
        return found

    monkeypatch.setattr(bus, "stored", expiring)
    assert (await served.http.request(method, f"/v1/streams/{request}")).status_code == 404
