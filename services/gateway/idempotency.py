"""`Idempotency-Key`: the same key names the same request, whoever asks and however often. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import astuple
from hashlib import blake2b

from services.gateway.errors import ApiError, invalid
from services.gateway.schemas import ChatRequest, CompletionRequest
from services.gateway.slo import Slo

HEADER = "Idempotency-Key"
MAX_LENGTH = 255
MAX_ATTEMPTS = 16
"""Requests that one key may start, each after the one before was cancelled or failed."""


def key_of(headers: Mapping[str, str]) -> str | None:
    """The key a request came with. Raises ApiError 400."""
    key = headers.get(HEADER.lower())
    if key is None:
        return None
    if not 1 <= len(key) <= MAX_LENGTH or not key.isascii() or not key.isprintable():
        raise invalid(HEADER, f"must be 1 to {MAX_LENGTH} printable ASCII characters (got length {len(key)})")
    return key


def request_of(tenant: str, key: str, attempt: int) -> str:
    """The request's id: 32 hex digits."""
    name = json.dumps([tenant, key, attempt]).encode()
    return blake2b(name, digest_size=16, person=b"adaserve-idem").hexdigest()


def digest_of(body: ChatRequest | CompletionRequest, slo: Slo) -> str:
    """What two requests with one key must have in common: every field, and targets given in headers."""
    said = [type(body).__name__, body.model_dump(mode="json"), astuple(slo)]
    return blake2b(json.dumps(said, sort_keys=True).encode(), digest_size=16).hexdigest()


def reused() -> ApiError:
    """422 for another body under a key that is taken."""
    return ApiError(
        422,
        f"{HEADER}: this key belongs to a request with another body",
        code="idempotency_key_reused",
        param=HEADER,
    )


def exhausted() -> ApiError:
    """409 for a key whose requests have all been cancelled or failed."""
    return ApiError(
        409,
        f"{HEADER}: {MAX_ATTEMPTS} requests with this key were cancelled or failed; use another one",
        code="idempotency_key_exhausted",
        param=HEADER,
    )
