"""FLUSHALL at every stage of a loaded ring: real gateway, real verifier, drafter and selector on table models."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from redis import Redis

from services.gateway import open_stream, streams
from services.gateway.handler import Gateway
from services.gateway.settings import GatewaySettings
from shared import codec
from shared.messages import Request
from shared.telemetry import configure
from shared.tokenizer import Tokenizer
from shared.topics import Keys
from tests.ring import VERIFIER, TableRing, plain
from tests.unit.services.gateway.conftest import serving

PROMPTS = [
    [1, 2, 3],
    [4, 5, 6, 7, 8, 9, 10, 11, 1, 2, 3],
    [3, 3],
    [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 0, 1, 2, 3, 4, 5],
]
MAX_TOKENS = 12


@dataclass
class Cell:
    """One gateway before one ring, which turns only when the test turns it."""

    http: httpx.AsyncClient
    redis: Redis
    keys: Keys
    gateway: Gateway
    new_ring: Callable[[], TableRing]
    ring: TableRing

    def beat(self) -> None:
        self.redis.set(self.keys.heartbeat("verifier", VERIFIER), b"\x80")
        self.redis.sadd(self.keys.members("verifier"), VERIFIER)

    async def turn(self) -> None:
        """One turn of the ring, and time for the gateway to hear of it."""
        self.ring.turn()
        served = [generation.id for generation in self.ring.scheduler.generations]
        assert len(served) == len(set(served))
        for _ in range(5):
            await asyncio.sleep(0)

    async def ask(self, number: int) -> Any:
        body = {
            "prompt": PROMPTS[number],
            "max_tokens": MAX_TOKENS,
            "seed": number,
            "ignore_eos": True,
            "return_token_ids": True,
        }
        return (await self.http.post("/v1/completions", json=body, timeout=50)).json()

    async def ask_all(self) -> list[asyncio.Task[Any]]:
        """All at once, and all queued."""
        calls = [asyncio.create_task(self.ask(number)) for number in range(len(PROMPTS))]
        while len(self._requests()) < len(PROMPTS):
            await asyncio.sleep(0.001)
        return calls

    def _requests(self) -> list[bytes]:
        return self.redis.keys(self.keys.request("*"))

    def expected(self) -> dict[str, list[int]]:
        """Plain decoding of every request, by id."""
        found: dict[str, list[int]] = {}
        for key in self._requests():
            body: Any = self.redis.hget(key, "body")
            request = codec.decode(Request, body)
            found[request.request] = plain(self.ring.model, request)
        return found

    async def flush(self, first: str) -> None:
        """Redis forgets; who is first to restore what it held?"""
        self.redis.flushall()
        self.beat()
        if first == "gateway":
            open_streams = self.gateway._streams._open
            self.gateway._streams.on_recreated()
            while any(not self.redis.exists(self.keys.request(request)) for request in list(open_streams)):
                await asyncio.sleep(0.001)
        if first == "nobody":
            self.ring = self.new_ring()


@pytest_asyncio.fixture
async def cell(
    redis_url: str, redis_client: Redis, keys: Keys, model_directory: Path, tokenizer: Tokenizer
) -> AsyncIterator[Cell]:
    telemetry = configure("gateway", "test")
    settings = GatewaySettings(redis_url=redis_url, cell=keys.cell, name="gateway", target=str(model_directory))

    def new_ring() -> TableRing:
        # Small enough that some requests wait in the queue, some for a place, and prompts take several chunks.
        return TableRing(
            redis_url, redis_client, keys, telemetry, tokenizer, max_running=3, num_blocks=20, prefill_chunk=4
        )

    ring = new_ring()
    gateway = Gateway(settings, "gateway.test", tokenizer, telemetry)
    made = Cell(httpx.AsyncClient(), redis_client, keys, gateway, new_ring, ring)
    made.beat()
    async with serving(gateway) as url, httpx.AsyncClient(base_url=url) as http:
        made.http = http
        yield made
    telemetry.shutdown()


@pytest.mark.parametrize("stage", [*range(1, 12), 14, 18, 22, 27, 32])
@pytest.mark.parametrize("first", ["verifier", "gateway", "nobody"])  # to restore; nobody: the verifier died too
async def test_no_stream_is_corrupt(cell: Cell, monkeypatch: pytest.MonkeyPatch, stage: int, first: str) -> None:
    monkeypatch.setattr(open_stream, "RESTORE_AFTER_S", 0.0 if first == "gateway" else 0.1)
    monkeypatch.setattr(streams, "AUDIT_S", 0.02)
    calls = await cell.ask_all()
    expected = cell.expected()
    for _ in range(stage):
        await cell.turn()
    await cell.flush(first)
    while not all(call.done() for call in calls):
        await cell.turn()
        await asyncio.sleep(0.001)
    for call in calls:
        answer = call.result()
        assert answer["choices"][0]["token_ids"] == expected[answer["id"].removeprefix("cmpl-")]
    assert cell.ring.scheduler.generations == []
    assert cell.redis.scard(cell.keys.owned(VERIFIER)) == 0
