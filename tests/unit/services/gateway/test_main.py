"""The gateway as a process: clear ends, and a drain that finishes what is open."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from shared.topics import Keys
from tests.unit.services.gateway.fake_verifier import FakeVerifier, Reply

Start = Callable[..., Awaitable[asyncio.subprocess.Process]]


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
        ({"ADASERVE_HTTP_HOST": "0.0.0.0"}, 2, "ADASERVE_UNSAFE_OPEN_BIND=False"),
        ({"ADASERVE_TARGETS": "x"}, 2, "did you mean ADASERVE_TARGET?"),
        ({"ADASERVE_POLICY_FILE": __file__}, 2, f"{__file__}, line "),
        ({"ADASERVE_POLICY_FILE": "no-such.yaml"}, 2, "no-such.yaml: cannot be read"),
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


async def test_a_signal_drains_open_streams(start: Start, gate: asyncio.Event) -> None:
    port = free_port()
    process = await start(ADASERVE_HTTP_PORT=str(port))
    body = {"prompt": "hello", "stream": True, "return_token_ids": True}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        while True:
            try:
                if (await client.get("/ready")).status_code == 200:
                    break
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.05)
        async with client.stream("POST", "/v1/completions", json=body) as response:
            lines = response.aiter_lines()
            while "token_ids" not in await anext(lines):
                pass
            process.send_signal(signal.SIGTERM)
            gate.set()
            rest = [line async for line in lines]
    assert "data: [DONE]" in rest
    await process.communicate()
    assert process.returncode == 0
