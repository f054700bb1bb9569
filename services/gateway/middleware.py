"""Pure ASGI middleware: the request's name and its count, and limits on the body before anything parses it."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.gateway.errors import ApiError, internal, report_bug
from shared.signals import HTTP_REQUESTS
from shared.telemetry import Telemetry

MAX_BODY_BYTES = 1 << 20
CLIENT_CLOSED = 499
SERVED = ("/v1/chat/completions", "/v1/completions")
FAILURES = ("500", "502", "503", "504")
FOLDERS = ("/v1/streams", "/v1/models", "/admin", "/console")

_REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")


class RequestContext:
    """Gives every answer an `x-request-id` (the client's own, if it sent a fitting one) and counts it.

    While the gateway drains, every answer is its connection's last. A bug below ends in OpenAI's error shape, if
    the answer has not begun.
    """

    def __init__(self, app: ASGIApp, telemetry: Telemetry, is_draining: Callable[[], bool]) -> None:
        self._app = app
        self._telemetry = telemetry
        self._is_draining = is_draining
        for labels in HTTP_REQUESTS.zeros(route=SERVED, status=FAILURES):  # or the first would go unseen
            telemetry.add(HTTP_REQUESTS, 0, **labels)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(16)
        scope.setdefault("state", {})["request_id"] = request_id
        status = CLIENT_CLOSED
        started = False

        async def answer(message: Message) -> None:
            nonlocal status, started
            if message["type"] == "http.response.start":
                started, status = True, message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                if self._is_draining():
                    headers["connection"] = "close"
            await send(message)

        try:
            await self._app(scope, receive, answer)
        except Exception as error:
            report_bug(request_id, error)
            if not started:
                await internal().response()(scope, receive, answer)
        finally:
            self._telemetry.add(HTTP_REQUESTS, route=_route(scope["path"]), status=str(status))


def _route(path: str) -> str:
    """The path, without what is named below it."""
    if path == "/":
        return "/console"
    return next((folder for folder in FOLDERS if path.startswith(f"{folder}/")), path)


class BodyLimits:
    """Reads the whole body, at most 1 MiB, and hands it on in one piece."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in ("POST", "PUT", "PATCH", "DELETE"):
            await self._app(scope, receive, send)
            return
        try:
            body = await _read(Headers(scope=scope), receive)
        except ApiError as error:
            await error.response()(scope, receive, send)
            return
        if body is None:  # the client left while sending
            return
        await self._app(scope, _replay(body, receive), send)


async def _read(headers: Headers, receive: Receive) -> bytes | None:
    if headers.get("content-length", "0").isdecimal() and int(headers.get("content-length", "0")) > MAX_BODY_BYTES:
        raise _too_large()
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise _too_large()
        if not message.get("more_body", False):
            break
    return bytes(body)


def _too_large() -> ApiError:
    return ApiError(413, f"The body is larger than {MAX_BODY_BYTES} bytes", code="body_too_large")


def _replay(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        first: dict[str, Any] = {"type": "http.request", "body": body, "more_body": False}
        return first

    return replay
