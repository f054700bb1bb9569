"""What has to be known of a server before a trace can be replayed against it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

import httpx

from bench.prompts import source_text
from bench.replay.client import complete
from bench.replay.plan import Server
from bench.replay.reply import Reply
from shared.errors import AdaServeError

PROBE_CHARS = 600
NUM_PROBES = 4
PROBE_TOKENS = 33
TIMEOUT_S = 60.0


class NoServer(AdaServeError):
    """The server does not answer as a gateway that a trace can be replayed against."""


async def probe(client: httpx.AsyncClient, texts: Mapping[str, str], zero_load_ms: float | None) -> Server:
    """Ask for the context, and measure on the idle server what a text has of tokens and a token takes of time.

    `texts` are the prompts of a file, if any; `zero_load_ms` is measured only when None: the median TPOT of
    completions decoded plainly, one at a time. Raises NoServer.
    """
    model, context = await _model(client)
    samples = [text[:PROBE_CHARS] for text in list(texts.values())[:NUM_PROBES]]
    samples += [source_text(PROBE_CHARS, seed=f"probe {index}") for index in range(NUM_PROBES)]
    replies = [await _ask(client, text) for text in samples]
    ratios = [
        len(text) / max(1, reply.usage.get("prompt_tokens", 0))
        for text, reply in zip(samples, replies, strict=True)
    ]
    return Server(
        model=model,
        context=context,
        chars_per_token=statistics.fmean(ratios),
        least_chars_per_token=min(ratios),
        zero_load_ms=zero_load_ms or statistics.median(_tpot_ms(reply) for reply in replies),
    )


async def _model(client: httpx.AsyncClient) -> tuple[str, int]:
    try:
        response = await client.get("/v1/models", timeout=TIMEOUT_S)
        entry = response.raise_for_status().json()["data"][0]
        model, context = str(entry["id"]), int(entry["max_model_len"])
    except httpx.HTTPStatusError as error:
        said = error.response.text[:500]
        raise NoServer(f"{client.base_url} answered {error.response.status_code} to /v1/models: {said}") from None
    except httpx.HTTPError as error:
        raise NoServer(f"no gateway at {client.base_url}: {error}") from None
    except (ValueError, KeyError, IndexError, TypeError):
        raise NoServer(f"{client.base_url}/v1/models does not tell a model's id and max_model_len") from None
    if context < 2 * PROBE_TOKENS:
        raise NoServer(f"{model} has a context of {context} tokens; it must have at least {2 * PROBE_TOKENS}")
    return model, context


async def _ask(client: httpx.AsyncClient, text: str) -> Reply:
    body: dict[str, Any] = {
        "model": "default",
        "prompt": text,
        "max_tokens": PROBE_TOKENS,
        "ignore_eos": True,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
        "adaserve": {"speculation": {"enabled": False}},
    }
    reply = await complete(client, body, TIMEOUT_S)
    if reply.failure is not None:
        raise NoServer(f"{client.base_url} failed a completion of {PROBE_TOKENS} tokens: {reply.failure}")
    return reply


def _tpot_ms(reply: Reply) -> float:
    if (spent_ms := reply.metrics.get("generation_time_ms")) is None:
        assert reply.first_ms is not None
        assert reply.last_ms is not None
        spent_ms = reply.last_ms - reply.first_ms
    return float(spent_ms) / max(1, reply.tokens - 1)
