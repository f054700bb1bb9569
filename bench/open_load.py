"""Open-loop load on a gateway: requests arrive at random whatever it does. Light enough for a shared machine."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PATIENCE_S = 60.0
OK, TOO_MANY = 200, 429


@dataclass(frozen=True, slots=True)
class Ask:
    """A request: who asks for what."""

    body: Mapping[str, Any]
    tenant: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of it. Status 0 is no answer; `retry_after_s` is a refusal's, what follows a whole answer's."""

    ask: Ask
    arrived_s: float  # since the load began
    took_s: float
    status: int
    code: str = ""
    retry_after_s: float = 0.0
    tokens: int = 0
    met: bool | None = None
    tpot_ms: float = 0.0
    drafted: float = 0.0  # nodes verified for it, per output token


def poisson(
    rate: float, seconds: float, make: Callable[[random.Random], Ask], seed: int
) -> list[tuple[float, Ask]]:
    """Arrivals of a Poisson process: at which second which request."""
    chance, at, arrivals = random.Random(seed), 0.0, []
    while (at := at + chance.expovariate(rate)) < seconds:
        arrivals.append((at, make(chance)))
    return arrivals


async def offer(port: int, arrivals: Sequence[tuple[float, Ask]]) -> list[Answer]:
    """Send each at its time; returns when all are answered."""
    started = time.monotonic()

    async def one(at: float, ask: Ask) -> Answer:
        await asyncio.sleep(at - (time.monotonic() - started))
        return await complete(port, ask, at)

    return list(await asyncio.gather(*(one(at, ask) for at, ask in arrivals)))


async def complete(port: int, ask: Ask, arrived_s: float) -> Answer:
    """One completion, not streamed, on a connection of its own."""
    sent = time.monotonic()
    try:
        async with asyncio.timeout(PATIENCE_S):
            raw = await _exchange(port, _request(ask))
    except (OSError, TimeoutError):
        return Answer(ask, arrived_s, time.monotonic() - sent, 0)
    return parse(ask, arrived_s, time.monotonic() - sent, raw)


async def probe(port: int, every_s: float) -> list[float]:
    """Seconds that the gateway's /live takes, again and again until cancelled: what the machine itself adds."""
    took = []
    with contextlib.suppress(asyncio.CancelledError):
        while True:
            await asyncio.sleep(every_s)
            sent = time.monotonic()
            await _exchange(port, b"GET /live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            took.append(time.monotonic() - sent)
    return took


def _request(ask: Ask) -> bytes:
    content = json.dumps({"model": "default", **ask.body}).encode()
    head = (
        "POST /v1/completions HTTP/1.1",
        "host: localhost",
        "connection: close",
        "content-type: application/json",
        f"x-adaserve-tenant: {ask.tenant}",
        f"content-length: {len(content)}",
    )
    return "\r\n".join(head).encode() + b"\r\n\r\n" + content


async def _exchange(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        return await reader.read()
    finally:
        writer.close()


def parse(ask: Ask, arrived_s: float, took_s: float, raw: bytes) -> Answer:
    """From the bytes of an HTTP answer. Anything unreadable counts as none."""
    head, _, content = raw.partition(b"\r\n\r\n")
    try:
        status, body = int(head.split()[1]), json.loads(content)
    except (IndexError, ValueError):
        return Answer(ask, arrived_s, took_s, 0)
    if status != OK:
        return Answer(ask, arrived_s, took_s, status, body["error"]["code"], _retry_after_s(head))
    metrics, tokens = body["metrics"], body["usage"]["completion_tokens"]
    return Answer(
        ask,
        arrived_s,
        took_s,
        status,
        tokens=tokens,
        met=metrics["slo"]["met"],
        tpot_ms=metrics["slo"]["tpot_ms"],
        drafted=metrics["speculative_decoding"]["num_draft_tokens"] / max(1, tokens),
    )


def _retry_after_s(head: bytes) -> float:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"retry-after-ms":
            return int(value) / 1_000
    return 0.0
