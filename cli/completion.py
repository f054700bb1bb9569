"""A streamed completion from a running gateway, as any HTTP client would ask for it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from shared.errors import AdaServeError

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 120.0  # between two events; a long prompt on a CPU takes its time


class CompletionFailed(AdaServeError):
    """The gateway refused the request, ended the stream with an error, or is not there.

    ``code`` is the error's, where the gateway gave one.
    """

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What `adaserve complete` and `chat` can ask for; None leaves the gateway's default.

    With ``messages`` it is a turn of a conversation and ``prompt`` is not used. ``inspect`` asks where each token
    came from.
    """

    prompt: str = ""
    messages: Sequence[Mapping[str, str]] | None = None
    max_tokens: int | None = 64
    temperature: float | None = None
    seed: int | None = None
    tpot_ms: float | None = None
    slo_class: str | None = None
    speculation: bool = True
    inspect: bool = False

    @property
    def path(self) -> str:
        return "/v1/completions" if self.messages is None else "/v1/chat/completions"

    def body(self) -> dict[str, Any]:
        """The JSON of its POST."""
        ours: dict[str, Any] = {"speculation": {"enabled": self.speculation}}
        slo = {"tpot_ms": self.tpot_ms, "class": self.slo_class}
        if any(value is not None for value in slo.values()):
            ours["slo"] = {name: value for name, value in slo.items() if value is not None}
        if self.inspect:
            ours["inspect"] = True
        asked = {"prompt": self.prompt} if self.messages is None else {"messages": list(self.messages)}
        optional = {"max_tokens": self.max_tokens, "temperature": self.temperature, "seed": self.seed}
        return {
            "model": "default",
            **asked,
            "stream": True,
            "stream_options": {"include_usage": True},
            "adaserve": ours,
        } | {name: value for name, value in optional.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Chunk:
    """Text that arrived at once. Where the gateway tells, its tokens, and whether each was drafted and accepted
    (None: not known)."""

    text: str
    token_ids: Sequence[int] = ()
    drafted: Sequence[bool | None] = ()


@dataclass(slots=True)
class Answer:
    """What has arrived: its id, text, finish reason, and after the last event usage and metrics (docs/api.md)."""

    id: str | None = None
    text: str = ""
    finish_reason: str | None = None
    usage: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)


async def stream(
    url: str, question: Question, answer: Answer, headers: Mapping[str, str] | None = None
) -> AsyncIterator[str]:
    """Pieces of text as they arrive, filling `answer`. Raises CompletionFailed."""
    async for chunk in chunks(url, question, answer, headers):
        yield chunk.text


async def chunks(
    url: str, question: Question, answer: Answer, headers: Mapping[str, str] | None = None
) -> AsyncIterator[Chunk]:
    """The same with what is known of their tokens. Raises CompletionFailed."""
    timeout = httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
    try:
        async with (
            httpx.AsyncClient(base_url=url, timeout=timeout, trust_env=False) as client,
            client.stream("POST", question.path, json=question.body(), headers=headers or {}) as response,
        ):
            if response.status_code != httpx.codes.OK:
                body = await response.aread()
                raise CompletionFailed(error_message(body, response.status_code), error_code(body))
            async for event in _events(response):
                chunk = _take(event, answer)
                if chunk.text:
                    yield chunk
    except httpx.TimeoutException:
        raise CompletionFailed(f"no answer from {url} in time") from None
    except httpx.TransportError as error:
        raise CompletionFailed(f"no gateway at {url}: {error}") from None
    except httpx.InvalidURL as error:
        raise CompletionFailed(f"{url} is not a URL: {error}") from None
    if answer.finish_reason is None:
        raise CompletionFailed("the stream ended without a finish reason")


async def _events(response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    """The JSON of each `data:` line until `[DONE]`."""
    async for line in response.aiter_lines():
        data = line.removeprefix("data:").strip()
        if not line.startswith("data:") or data == "[DONE]":
            continue  # comments, ids, blank lines; the server closes after [DONE]
        yield json.loads(data)


def _take(event: dict[str, Any], answer: Answer) -> Chunk:
    if "error" in event:
        raise CompletionFailed(str(event["error"].get("message", event["error"])))
    answer.id = event.get("id") or answer.id
    answer.usage = event.get("usage") or answer.usage
    answer.metrics = event.get("metrics") or answer.metrics
    for choice in event.get("choices", ())[:1]:
        piece = choice.get("text") or (choice.get("delta") or {}).get("content") or ""
        answer.finish_reason = choice.get("finish_reason") or answer.finish_reason
        answer.text += piece
        drafted = (choice.get("adaserve") or {}).get("drafted") or ()
        return Chunk(piece, choice.get("token_ids") or (), drafted)
    return Chunk("")


def error_message(body: bytes, status: int) -> str:
    """OpenAI's error message, or the status where the body is something else."""
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"the gateway answered {status}"


def error_code(body: bytes) -> str | None:
    """OpenAI's error code, if there is one."""
    try:
        return str(json.loads(body)["error"]["code"])
    except (ValueError, KeyError, TypeError):
        return None


def context_of(url: str, headers: Mapping[str, str]) -> int | None:
    """The served model's context in tokens; None where the gateway does not tell."""
    try:
        answer = httpx.get(f"{url}/v1/models", headers=dict(headers), timeout=CONNECT_TIMEOUT_S, trust_env=False)
        return int(answer.raise_for_status().json()["data"][0]["max_model_len"])
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, LookupError, TypeError):
        return None


def summary(answer: Answer) -> str:
    """One line: tokens, first token, pace against the target, what speculation gave, the id for `adaserve why`."""
    metrics, slo = answer.metrics, answer.metrics.get("slo") or {}
    speculative = metrics.get("speculative_decoding") or {}
    parts = [f"{answer.usage.get('completion_tokens', '?')} tokens ({answer.finish_reason})"]
    if (first := metrics.get("time_to_first_token_ms")) is not None:
        parts.append(f"first after {first:.0f} ms")
    pace = slo.get("tpot_ms", metrics.get("mean_itl_ms"))
    if pace is not None:
        parts.append(f"{pace:.1f} ms per token{_against_target(slo)}")
    if (length := speculative.get("mean_acceptance_length")) is not None:
        parts.append(f"{length:.2f} tokens per verification")
    if (rate := speculative.get("draft_acceptance_rate")) is not None:
        parts.append(f"{rate:.0%} of the verified draft tokens accepted")
    if answer.id is not None:
        parts.append(answer.id)
    return " · ".join(parts)


def _against_target(slo: dict[str, Any]) -> str:
    if slo.get("tpot_target_ms") is None:
        return ""
    return f" (target {slo['tpot_target_ms']:g} ms: {'met' if slo.get('met') else 'missed'})"
