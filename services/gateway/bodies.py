"""JSON bodies within limits of time and memory: what is refused before, and what while it is parsed.

Depth and number of arrays and objects are counted on the bytes, in numpy: a body of 1 MiB of tiny arrays would
otherwise hold up all streams for a tenth of a second and become tens of megabytes.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import numpy.typing as npt
from fastapi import Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from pydantic_core import from_json

from services.gateway.errors import ApiError

MAX_JSON_DEPTH = 32
MAX_CONTAINERS = 1 << 15  # arrays and objects: more than all messages a chat may have, with parts

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class JsonRoute(APIRoute):
    """A route whose body, if it takes one, is JSON within the limits."""

    def get_route_handler(self) -> Handler:
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        async def handle_json(request: Request) -> Response:
            if body := await request.body():
                check_type(request.headers.get("content-type"))
                return await handle(_Parsed(request, body, parse(body)))
            return await handle(request)

        return handle_json


class _Parsed(Request):
    """A request whose body is parsed already."""

    def __init__(self, request: Request, body: bytes, value: Any) -> None:
        super().__init__(request.scope, request.receive)
        self._bytes = body
        self._value = value

    async def body(self) -> bytes:
        return self._bytes

    async def json(self) -> Any:
        return self._value


def check_type(content_type: str | None) -> None:
    """Raises ApiError 415 unless the body is said to be JSON."""
    media = (content_type or "").partition(";")[0].strip().lower()
    if media != "application/json" and not (media.startswith("application/") and media.endswith("+json")):
        raise ApiError(
            415,
            f"content-type: must be application/json (got {(content_type or '')[:64]!r})",
            code="unsupported_media_type",
            param="content-type",
        )


def parse(body: bytes) -> Any:
    """The value of a JSON text in UTF-8. Raises ApiError 400, which never quotes the body."""
    num_opened = body.count(b"[") + body.count(b"{")
    if num_opened > MAX_CONTAINERS:
        raise ApiError(400, f"The body has more than {MAX_CONTAINERS} opening brackets", code="body_too_complex")
    if num_opened > MAX_JSON_DEPTH and json_depth(body) > MAX_JSON_DEPTH:
        raise ApiError(400, f"The body is nested deeper than {MAX_JSON_DEPTH} levels", code="body_too_deep")
    try:
        return from_json(body, allow_inf_nan=False, cache_strings="keys")
    except ValueError as error:
        raise ApiError(400, f"The body is not valid JSON: {error}", code="invalid_json") from None


def json_depth(body: bytes) -> int:
    """How deep arrays and objects are nested, brackets in strings not counted; for any bytes."""
    text = np.frombuffer(body, np.uint8)
    steps = np.zeros(len(text), np.int32)
    steps[(text == ord("[")) | (text == ord("{"))] = 1
    steps[(text == ord("]")) | (text == ord("}"))] = -1
    quotes = (text == ord('"')) & ~_escaped(text)
    steps[np.logical_xor.accumulate(quotes)] = 0
    return max(0, int(steps.cumsum().max(initial=0)))


def _escaped(text: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Where an odd number of backslashes stands before a byte."""
    escaped = np.zeros(len(text), np.bool_)
    is_backslash = text == ord("\\")
    if is_backslash.any():
        places = np.arange(len(text), dtype=np.int32)
        before = np.maximum.accumulate(np.where(is_backslash, np.int32(-1), places))  # the last other byte
        escaped[1:] = ((places - before) % 2 == 1)[:-1]
    return escaped
