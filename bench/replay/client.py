"""One streamed completion over HTTP."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any

import httpx

from bench.replay.reply import Reply, refusal, take


def now_ms() -> float:
    """The clock of all times here."""
    return time.monotonic() * 1_000


async def complete(
    client: httpx.AsyncClient,
    body: Mapping[str, Any],
    timeout_s: float,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """Never raises for what the server or the network does: that is the reply's `failure`."""
    reply = Reply()
    try:
        async with asyncio.timeout(timeout_s):
            await _stream(client, body, headers, reply)
    except TimeoutError:
        reply.failure = "timeout"
    except (httpx.HTTPError, httpx.StreamError) as error:
        reply.failure = f"connection: {type(error).__name__}"
    except (ValueError, TypeError, AttributeError):
        reply.failure = "unreadable answer"
    if reply.failure is None and (reply.finish_reason is None or reply.tokens < 1):
        reply.failure = "stream ended early"
    return reply


async def _stream(
    client: httpx.AsyncClient, body: Mapping[str, Any], headers: Mapping[str, str] | None, reply: Reply
) -> None:
    async with client.stream("POST", "/v1/completions", json=body, headers=headers) as response:
        if response.status_code != httpx.codes.OK:
            reply.failure = refusal(response.status_code, await response.aread())
            return
        async for line in response.aiter_lines():
            if line.startswith("data:") and (data := line[5:].strip()) != "[DONE]":
                take(json.loads(data), reply, now_ms())
