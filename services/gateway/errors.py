"""OpenAI's error shape, the one every path answers with: 404, 405, validation, mid-stream.

    {"error": {"message": ..., "type": ..., "param": ..., "code": ...}}

Messages name field, value and limit. Of a prompt, messages, a stop string and other free text they show the length
only.
"""

from __future__ import annotations

import logging
import math
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Route

logger = logging.getLogger(__name__)

PRIVATE_FIELDS = frozenset(
    {"prompt", "messages", "stop", "user", "metadata", "logit_bias", "response_format", "tools", "tokens"}
)
KEYED_BY_CLIENTS = frozenset({"metadata"})  # its keys are text of the client's own
MAX_SHOWN = 64

_TYPES = {429: "rate_limit_error", 503: "service_unavailable_error"}
_CODES = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}
_LOCATIONS = ("body", "query", "path", "header")


class ApiError(Exception):
    """An answer other than success. ``code`` is a stable word, ``param`` the field at fault.

    ``details`` are figures for programs, told as the error's ``adaserve``.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        param: str | None = None,
        retry_after_s: float | None = None,
        details: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.retry_after_s = retry_after_s
        self.details = details

    def body(self) -> dict[str, Any]:
        """The answer's JSON, and the data of an error event inside a stream."""
        default = "server_error" if self.status >= 500 else "invalid_request_error"
        kind = _TYPES.get(self.status, default)
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return {"error": error if self.details is None else {**error, "adaserve": dict(self.details)}}

    def headers(self) -> dict[str, str]:
        if self.retry_after_s is None:
            return {}
        return {
            "retry-after": str(max(1, math.ceil(self.retry_after_s))),
            "retry-after-ms": str(max(1, round(self.retry_after_s * 1_000))),
        }

    def response(self) -> JSONResponse:
        return JSONResponse(self.body(), self.status, self.headers())


def invalid(param: str, message: str, *, code: str = "invalid_value") -> ApiError:
    """400 for one field; ``message`` says what is wrong, the field's name is put before it."""
    return ApiError(400, f"{param}: {message}", code=code, param=param)


def internal() -> ApiError:
    """500 that says nothing about the inside."""
    return ApiError(
        500, "Something broke inside the server; the request id finds it in the logs", code="internal_error"
    )


def of_validation(errors: Sequence[Mapping[str, Any]]) -> ApiError:
    """The first of pydantic's errors, as 400."""
    error = errors[0]
    path = [part for part in error["loc"] if part not in _LOCATIONS]
    if not path:
        return ApiError(
            400, "The body must be a JSON object, sent with content-type: application/json", code="invalid_body"
        )
    named = path[:1] if path[0] in KEYED_BY_CLIENTS else path
    param = ".".join(str(part) for part in named)[:MAX_SHOWN].encode("utf-8", "replace").decode()
    shown = _shown(str(path[0]), error.get("input"))
    code = "missing_field" if error["type"] == "missing" else "invalid_value"
    got = "" if code == "missing_field" else f" (got {shown})"
    return ApiError(400, f"{param}: {error['msg']}{got}", code=code, param=param)


def _shown(field: str, value: Any) -> str:
    """A scalar as it is, of everything else and of private fields only kind and length."""
    if isinstance(value, (str, list, tuple, dict)) and (field in PRIVATE_FIELDS or not isinstance(value, str)):
        return f"{_kind(value)} of length {len(value)}"
    text = repr(value)
    if len(text) <= MAX_SHOWN:
        return text
    return f"{_kind(value)} of length {len(value) if isinstance(value, str) else len(text)}"


def _kind(value: Any) -> str:
    return {"str": "string", "dict": "object", "tuple": "list"}.get(type(value).__name__, type(value).__name__)


async def on_api_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    return error.response()


async def on_validation_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return of_validation(error.errors()).response()


async def on_http_error(request: Request, error: Exception) -> JSONResponse:
    """404, 405 and what FastAPI itself refuses."""
    assert isinstance(error, HTTPException)
    where = f"{request.method} {request.url.path[:MAX_SHOWN]}"
    message = {404: f"There is no {where}", 405: f"{where} is not allowed"}.get(
        error.status_code, str(error.detail)
    )
    answer = ApiError(error.status_code, message, code=_CODES.get(error.status_code, "http_error"))
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    if error.status_code == 405:
        headers["allow"] = ", ".join(allowed_methods(request))
    return JSONResponse(answer.body(), error.status_code, headers)


def allowed_methods(request: Request) -> list[str]:
    """Of all routes of the path: the framework names only those of the first one."""
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    found = {
        method
        for route in routes
        if route.path_regex.fullmatch(request.url.path)
        for method in route.methods or ()
    }
    return sorted(found)


def report_bug(request: str, error: Exception) -> None:
    """Log type and frames, never the text: it may quote a prompt."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    logger.error("request %s failed with %s\n%s", request, type(error).__name__, frames)
