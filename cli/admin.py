"""What commands ask of a gateway's /admin, as any HTTP client would."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from cli.completion import error_message
from cli.settings import presented
from shared.errors import AdaServeError

TIMEOUT_S = 5.0


class AdminFailed(AdaServeError):
    """The gateway refused, with that status, or is not there (None)."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


def ask(
    url: str, admin_key: str | None, method: str, path: str, body: Any = None, **params: str | int
) -> dict[str, Any]:
    """The JSON of an answer that is a success. Raises AdminFailed."""
    found: dict[str, Any] = _answer(url, admin_key, method, path, body, params).json()
    return found


def ask_text(url: str, admin_key: str | None, path: str, **params: str | int) -> str:
    """The text of an answer to GET that is a success. Raises AdminFailed."""
    return _answer(url, admin_key, "GET", path, None, params).text


def _answer(
    url: str, admin_key: str | None, method: str, path: str, body: Any, params: Mapping[str, str | int]
) -> httpx.Response:
    headers = presented(admin_key, None)
    try:
        with httpx.Client(base_url=url, timeout=TIMEOUT_S, trust_env=False, headers=headers) as client:
            response = client.request(method, path, json=body, params=params)
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise AdminFailed(f"no gateway at {url}: {error}") from None
    if not response.is_success:
        raise AdminFailed(error_message(response.content, response.status_code), response.status_code)
    return response
