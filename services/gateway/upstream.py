"""The control arm of a rollout, where that is an existing OpenAI-compatible server: requests are forwarded to it.

It gets the body as it came, without our own object, and a key of the operator's in place of the client's. Of its
errors clients see those about their request; whatever else goes wrong is a 502 or a 504 that says no more.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import httpx
from fastapi import Request
from fastapi.responses import Response

from services.gateway.errors import ApiError
from services.gateway.leaving import unless_left
from services.gateway.members import with_number, without
from services.gateway.middleware import CLIENT_CLOSED
from services.gateway.quotas import Grant
from services.gateway.relayed import Relayed, tokens_of
from services.gateway.slo import Slo
from services.gateway.sse import EventStream
from services.gateway.terms import Terms
from services.gateway.told import ARM_HEADER
from shared import signals
from shared.errors import ConfigurationError
from shared.rollout import Arm, Upstream
from shared.telemetry import Telemetry

logger = logging.getLogger(__name__)

CONNECT_S = 5.0
MAX_ANSWER_BYTES = 64 << 20
MAX_ERROR_BYTES = 64 << 10
MAX_MESSAGE = 1000
PASSED_ON = ("traceparent", "tracestate", "idempotency-key")
CLIENTS_OWN = frozenset({400, 404, 409, 413, 415, 422, 429})  # errors that are about the request
OWN_OBJECT = "adaserve"
LIMITS = ("max_tokens", "max_completion_tokens")
OTHERS_LIMITS = ("max_new_tokens", "n_predict", "num_predict")  # as other servers spell it; here they are ignored
EVENT_STREAM = "text/event-stream"
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Detour:
    """A request that another server is to answer; ``arrived`` is its monotonic time.

    ``grant`` is what it has of its tenant's limits, ``numbers`` are those members of the body in which the tenant
    may have less than it asks for.
    """

    terms: Terms
    upstream: Upstream
    arrived: float
    is_stream: bool
    grant: Grant | None = None
    numbers: Mapping[str, int] = field(default_factory=dict)

    def failed(self) -> None:
        """Nothing has come of it."""
        if self.grant is not None:
            self.grant.cancel()

    def ended(self, tokens: int | None) -> None:
        """After so many output tokens of all choices; None where nobody counted them. Idempotent."""
        if self.grant is not None:
            self.grant.all_ended(tokens)


class UpstreamServer:
    """``finished`` is told arm, class and whether the SLO was attained; ``secret`` gives the key of a variable."""

    def __init__(
        self,
        telemetry: Telemetry,
        finished: Callable[[str, str, bool], None],
        secret: Callable[[str], str | None],
    ) -> None:
        self._telemetry = telemetry
        self._finished = finished
        self._secret = secret
        self._made: httpx.AsyncClient | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def stop(self) -> None:
        if self._closing:
            await asyncio.wait(self._closing)
        if self._made is not None:
            await self._made.aclose()

    @property
    def _client(self) -> httpx.AsyncClient:
        """Made when it is first needed, on the loop that serves; without a limit that admission has not set."""
        if self._made is None:
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
            self._made = httpx.AsyncClient(limits=limits, trust_env=False, follow_redirects=False)
        return self._made

    async def forward(
        self, detour: Detour, request: Request, headers: Mapping[str, str], *, patience_s: float
    ) -> Response:
        """The other server's answer. Raises ApiError."""
        try:
            body = _body(await request.body(), detour.numbers)
            found = await unless_left(request, self._open(detour, request, body))
            if found is None:
                detour.failed()
                return Response(status_code=CLIENT_CLOSED)
            told = {**headers, ARM_HEADER: Arm.CONTROL.value}
            if detour.grant is not None:
                told |= detour.grant.headers
            if _is_type(found, EVENT_STREAM):
                relayed = Relayed()

                def closed() -> None:
                    self._close(found)
                    detour.ended(relayed.num_tokens)

                return EventStream(self._events(found, detour, relayed), closed, told, patience_s=patience_s)
            whole = await unless_left(request, self._whole(found))
        except BaseException as error:
            detour.failed()
            if (
                isinstance(error, ApiError)
                and error.status >= httpx.codes.INTERNAL_SERVER_ERROR
                and detour.is_stream
            ):
                self._count(None, detour.terms.slo)
            raise
        if whole is None:
            detour.ended(0)
            return Response(status_code=CLIENT_CLOSED)
        detour.ended(tokens_of(whole))
        return Response(whole, headers={**told, "content-type": found.headers["content-type"]})

    async def _open(self, detour: Detour, request: Request, body: bytes) -> httpx.Response:
        """Its answer up to the body, which is one that can be passed on. Raises ApiError."""
        upstream = detour.upstream
        url = upstream.upstream + request.url.path.removeprefix("/v1")
        try:
            key = self._secret(upstream.api_key_env) if upstream.api_key_env is not None else None
        except ConfigurationError as error:  # its file has gone bad since the policy was taken
            raise self._broken(str(error)) from None
        timeout = httpx.Timeout(upstream.timeout_s, connect=min(CONNECT_S, upstream.timeout_s))
        sent = self._client.build_request(
            "POST", url, content=body, headers=_headers(request, key), timeout=timeout
        )
        try:
            found = await self._client.send(sent, stream=True)
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise self._failure(error) from None
        if found.status_code == httpx.codes.OK and (_is_type(found, EVENT_STREAM) or _is_type(found, JSON)):
            return found
        try:
            raise await self._refusal(found, key)
        finally:
            await found.aclose()

    async def _whole(self, found: httpx.Response) -> bytes:
        """Raises ApiError."""
        whole = bytearray()
        try:
            async for data in found.aiter_bytes():
                whole += data
                if len(whole) > MAX_ANSWER_BYTES:
                    raise self._broken(f"its answer has more than {MAX_ANSWER_BYTES} bytes")
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise self._failure(error) from None
        finally:
            await found.aclose()
        return bytes(whole)

    async def _events(self, found: httpx.Response, detour: Detour, relayed: Relayed) -> AsyncIterator[bytes]:
        """Its events as they are; a stream that breaks off ends with an error of ours."""
        try:
            async for data in found.aiter_bytes():
                if events := relayed.feed(data, 1_000 * (time.monotonic() - detour.arrived)):
                    yield events
                if relayed.is_overlong:
                    raise self._broken("one of its events does not end")
            if not relayed.is_done:
                raise self._broken("its stream has ended before its end")
        except ApiError as error:
            self._count(None, detour.terms.slo)
            yield _error_event(error)
        except (httpx.HTTPError, httpx.StreamError) as error:
            self._count(None, detour.terms.slo)
            yield _error_event(self._failure(error))
        else:
            self._count(relayed, detour.terms.slo)
        finally:
            await found.aclose()

    def _count(self, relayed: Relayed | None, slo: Slo) -> None:
        """A stream with a target; None for one that has failed."""
        if math.isinf(slo.tpot_ms) and math.isinf(slo.ttft_ms):
            return
        for met in [False] if relayed is None else relayed.attained(slo.tpot_ms, slo.ttft_ms):
            self._finished(Arm.CONTROL.value, slo.name, met)

    def _close(self, found: httpx.Response) -> None:
        """Whatever its stream had come to, also if nobody began to read it: the other server is to stop."""
        task = asyncio.create_task(found.aclose())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _refusal(self, found: httpx.Response, key: str | None) -> ApiError:
        status = found.status_code
        retry_after_s = _seconds(found.headers.get("retry-after"))
        if status in CLIENTS_OWN:
            self._telemetry.add(signals.UPSTREAM_ERRORS, kind="refused")
            return _passed_on(status, await _beginning(found), key, retry_after_s)
        if status == httpx.codes.SERVICE_UNAVAILABLE:
            self._telemetry.add(signals.UPSTREAM_ERRORS, kind="failed")
            words = "The server that this request was forwarded to has no capacity now"
            return ApiError(503, words, code="unavailable", retry_after_s=retry_after_s or 1.0)
        words = (
            "its answer is neither JSON nor a stream" if status == httpx.codes.OK else f"its status is {status}"
        )
        return self._broken(words)

    def _failure(self, error: Exception) -> ApiError:
        """What clients are told of a transport error: not what, and not of whom."""
        logger.warning("forwarding has failed: %s", type(error).__name__)
        if isinstance(error, httpx.TimeoutException):
            self._telemetry.add(signals.UPSTREAM_ERRORS, kind="timeout")
            words = "The server that this request was forwarded to did not answer in time"
            return ApiError(504, words, code="upstream_timeout")
        if isinstance(error, httpx.ConnectError):
            self._telemetry.add(signals.UPSTREAM_ERRORS, kind="unreachable")
            words = "The server that this request was forwarded to cannot be reached"
            return ApiError(502, words, code="upstream_unreachable")
        return self._broken(type(error).__name__)

    def _broken(self, words: str) -> ApiError:
        logger.warning("the server that a request was forwarded to has failed: %s", words)
        self._telemetry.add(signals.UPSTREAM_ERRORS, kind="failed")
        return ApiError(
            502, "The server that this request was forwarded to did not answer it", code="upstream_failed"
        )


def _headers(request: Request, key: str | None) -> dict[str, str]:
    """The client's own authorization stays here, as it is for this server; so does what no header may hold."""
    given = {name: request.headers[name] for name in PASSED_ON if name in request.headers}
    passed = {name: value for name, value in given.items() if value.isascii() and value.isprintable()}
    passed["x-request-id"] = request.state.request_id
    own = {
        "content-type": JSON,
        "accept": f"{EVENT_STREAM}, {JSON}",
        "accept-encoding": "identity",
        "user-agent": f"adaserve/{version('adaserve')}",
    }
    return {**passed, **own, **({} if key is None else {"authorization": f"Bearer {key}"})}


def _body(body: bytes, numbers: Mapping[str, int]) -> bytes:
    """What is sent: the client's bytes but for our own object, and for limits, which are the tenant's."""
    for name in (OWN_OBJECT, *OTHERS_LIMITS, *(LIMITS if numbers else ()), *numbers):
        body = without(body, name)
    for name, value in numbers.items():
        body = with_number(body, name, value)
    return body


def _is_type(found: httpx.Response, kind: str) -> bool:
    return str(found.headers.get("content-type", "")).partition(";")[0].strip().lower() == kind


def _seconds(text: str | None) -> float | None:
    return min(3600.0, float(text)) if text is not None and text.isascii() and text.isdigit() else None


async def _beginning(found: httpx.Response) -> bytes:
    """Of an error's body; what does not come is left out."""
    data = bytearray()
    try:
        async for piece in found.aiter_bytes():
            data += piece
            if len(data) > MAX_ERROR_BYTES:
                break
    except (httpx.HTTPError, httpx.StreamError):
        return b""
    return bytes(data)


def _passed_on(status: int, body: bytes, key: str | None, retry_after_s: float | None) -> ApiError:
    """An error about the request in our one shape, without the operator's key should it be quoted."""
    try:
        found: Any = json.loads(body)
        error = found["error"] if isinstance(found["error"], dict) else found
    except (ValueError, KeyError, TypeError, RecursionError):
        error = {}

    def said(name: str) -> str | None:
        value = error.get(name)
        text = str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else None
        return text.replace(key, "***")[:MAX_MESSAGE] if text and key else text and text[:MAX_MESSAGE]

    message = said("message") or f"The server that this request was forwarded to refused it with {status}"
    return ApiError(
        status,
        message,
        code=said("code") or "upstream_refused",
        param=said("param"),
        retry_after_s=(retry_after_s or 1.0) if status == httpx.codes.TOO_MANY_REQUESTS else retry_after_s,
    )


def _error_event(error: ApiError) -> bytes:
    data = json.dumps(error.body(), ensure_ascii=False, separators=(",", ":")).encode()
    return b"event: error\ndata: " + data + b"\n\n"
