"""The gateway as a process: clear ends, and a drain that finishes what is open."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from shared.topics import Keys
from tests.unit.services.gateway.fake_verifier import FakeVerifier, Reply

Start = Callable[..., Awaitable[asyncio.subprocess.Process]]
Client = httpx.AsyncClient


@pytest_asyncio.fixture
async def start(redis_url: str, keys: Keys, model_directory: Path) -> AsyncIterator[Start]:
    processes: list[asyncio.subprocess.Process] = []

    async def _start(**settings: str) -> asyncio.subprocess.Process:
        others = {name: value for name, value in os.environ.items() if not name.startswith(("ADASERVE_", "OTEL_"))}
        own = {
            "REDIS_URL": redis_url,
            "ADASERVE_CELL": keys.cell,
            "ADASERVE_TARGET": str(model_directory),
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "services.gateway",
            env=others | own | settings,
            stderr=asyncio.subprocess.PIPE,
        )
        processes.append(process)
        return process

    yield _start
    for process in processes:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize(
    ("settings", "code", "words"),
    [
        ({"ADASERVE_TARGET": "./no-such-model"}, 2, "./no-such-model: no such directory"),
        ({"REDIS_URL": "unix:///no/such.sock"}, 3, "adaserve: "),
        ({"ADASERVE_HTTP_HOST": "0.0.0.0"}, 2, "'0.0.0.0' is not loopback, and there are no API keys"),
        ({"ADASERVE_TARGETS": "x"}, 2, "did you mean ADASERVE_TARGET?"),
        ({"ADASERVE_POLICY_FILE": __file__}, 2, f"{__file__}, line "),
        ({"ADASERVE_POLICY_FILE": "no-such.yaml"}, 2, "no-such.yaml: cannot be read"),
        ({"ADASERVE_KEYS_FILE": "no-such.yaml"}, 2, "no-such.yaml: cannot be read"),
        ({"ADASERVE_ADMIN_KEY_FILE": "/no-such"}, 2, "ADASERVE_ADMIN_KEY_FILE='/no-such': No such file"),
        ({"ADASERVE_REDIS_PASSWORD_FILE": "/no-such"}, 2, "ADASERVE_REDIS_PASSWORD_FILE='/no-such': No such"),
        ({"ADASERVE_REDIS_CA_FILE": "/no-such"}, 2, "ADASERVE_REDIS_CA_FILE='/no-such': there is no such file"),
    ],
)
async def test_an_impossible_start_is_one_line(
    start: Start, settings: dict[str, str], code: int, words: str
) -> None:
    process = await start(**{"ADASERVE_HTTP_PORT": "0"} | settings)
    _, errors = await process.communicate()
    lines = errors.decode().splitlines()
    assert process.returncode == code
    assert len(lines) == 1
    assert words in lines[0]


async def test_a_port_in_use_is_one_line(start: Start) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = await start(ADASERVE_HTTP_PORT=str(port))
        _, errors = await process.communicate()
    assert process.returncode == 2
    assert errors.decode().strip() == f"adaserve: cannot listen on 127.0.0.1:{port}: Address already in use"


@pytest_asyncio.fixture
async def gate(redis_url: str, keys: Keys) -> AsyncIterator[asyncio.Event]:
    """Opens the second half of every answer of a verifier that runs meanwhile."""
    gate = asyncio.Event()
    verifier = FakeVerifier(redis_url, keys, lambda _: Reply([[5], [6]], gate=gate))
    await verifier.start()
    yield gate
    await verifier.stop()


BODY = {"prompt": "hello", "return_token_ids": True}


@asynccontextmanager
async def answering(start: Start, **settings: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, Client]]:
    """A gateway process that is ready, and a client of it."""
    port = free_port()
    process = await start(ADASERVE_HTTP_PORT=str(port), **settings)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        while not await is_ready(client):
            await asyncio.sleep(0.05)
        yield process, client


async def is_ready(client: Client) -> bool:
    try:
        return (await client.get("/ready")).status_code == 200
    except httpx.TransportError:
        return False


@asynccontextmanager
async def half_a_stream(client: Client) -> AsyncIterator[tuple[httpx.Response, list[str], AsyncIterator[str]]]:
    """A stream whose first token has come: the response, the lines so far and those to come."""
    async with client.stream("POST", "/v1/completions", json={**BODY, "stream": True}) as response:
        lines = response.aiter_lines()
        first = [await anext(lines)]
        while "token_ids" not in first[-1]:
            first.append(await anext(lines))
        yield response, first, lines


async def test_a_signal_drains_open_streams(start: Start, gate: asyncio.Event) -> None:
    async with answering(start) as (process, client), half_a_stream(client) as (_, _, lines):
        process.send_signal(signal.SIGTERM)
        gate.set()
        rest = [line async for line in lines]
    assert "data: [DONE]" in rest
    await process.communicate()
    assert process.returncode == 0


async def test_what_comes_during_a_drain_is_sent_elsewhere(start: Start, gate: asyncio.Event) -> None:
    async with answering(start) as (process, client), half_a_stream(client) as (response, _, lines):
        stream = response.headers["x-adaserve-stream"]
        process.send_signal(signal.SIGTERM)
        while await is_ready(client):
            await asyncio.sleep(0.01)
        refused = [await client.post("/v1/completions", json=BODY), await client.get(f"/v1/streams/{stream}")]
        assert (await client.get("/live")).status_code == 200
        gate.set()
        rest = [line async for line in lines]
    assert "data: [DONE]" in rest
    for answer in refused:
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "draining")
        assert answer.headers["connection"] == "close"
        assert answer.headers["retry-after"] == "1"


async def test_a_stream_that_the_drain_ends_goes_on_at_another_gateway(start: Start, gate: asyncio.Event) -> None:
    async with answering(start) as (_, other), answering(start, ADASERVE_DRAIN_S="0") as (process, client):
        async with half_a_stream(client) as (response, first, lines):
            process.send_signal(signal.SIGTERM)
            rest = [line async for line in lines]
        await process.communicate()
        stream = response.headers["x-adaserve-stream"]
        seen = [line.removeprefix("id: ") for line in [*first, *rest] if line.startswith("id: ")]
        told = json.loads(next(line for line in rest if line.startswith("data: ")).removeprefix("data: "))
        assert process.returncode == 0
        assert "retry: 100" in rest
        assert "event: error" in rest
        assert told["error"]["code"] == "draining"
        assert len(seen) == 2
        assert seen[0] == seen[1]
        gate.set()
        answer = await other.get(f"/v1/streams/{stream}", headers={"last-event-id": seen[-1]})
    assert '"token_ids":[6]' in answer.text
    assert '"token_ids":[5]' not in answer.text
    assert answer.text.endswith("data: [DONE]\n\n")


async def test_an_answer_in_one_piece_that_the_drain_ends_is_fetched_from_another_gateway(
    start: Start, gate: asyncio.Event
) -> None:
    async with answering(start) as (_, other), answering(start, ADASERVE_DRAIN_S="1") as (process, client):
        asking = asyncio.create_task(client.post("/v1/completions", json=BODY))
        while "adaserve_open_streams 1.0" not in (await client.get("/metrics")).text:
            await asyncio.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        refused = await asking
        stream = refused.headers["x-adaserve-stream"]
        assert refused.status_code == 503
        assert stream in refused.json()["error"]["message"]
        gate.set()
        answer = await other.get(f"/v1/streams/{stream}")
    assert answer.text.endswith("data: [DONE]\n\n")


async def test_a_second_signal_ends_it_at_once(start: Start, gate: asyncio.Event) -> None:
    async with answering(start) as (process, client), half_a_stream(client) as (_, _, lines):
        process.send_signal(signal.SIGTERM)
        while await is_ready(client):
            await asyncio.sleep(0.01)
        process.send_signal(signal.SIGINT)
        with pytest.raises(httpx.TransportError):
            [line async for line in lines]
    await process.communicate()
    assert process.returncode == 128 + signal.SIGINT
