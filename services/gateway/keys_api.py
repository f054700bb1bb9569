"""/admin/keys and /admin/audit: what `adaserve keys` and `adaserve audit` ask for."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from services.gateway.authentication import Caller
from services.gateway.errors import ApiError, invalid
from services.gateway.handler import Gateway
from shared import api_keys, timestamps
from shared.api_keys import MAX_NOTE, ApiKey, Scope, StoredSecret, Verdict
from shared.errors import ConfigurationError
from shared.settings import Name
from shared.topics import AUDIT_MAXLEN

MAX_TIME = 64  # characters of a time or duration


class NewKey(BaseModel):
    """Body of POST /admin/keys. `expires` is a time, `expires_in` a duration such as 30d."""

    model_config = ConfigDict(extra="forbid")

    tenant: Name
    scopes: tuple[Scope, ...] = Field(default=(Scope.INFERENCE,), min_length=1, max_length=len(Scope))
    expires: str | None = Field(default=None, max_length=MAX_TIME)
    expires_in: str | None = Field(default=None, max_length=MAX_TIME)
    note: str = Field(default="", max_length=MAX_NOTE)


class Rotation(BaseModel):
    """Body of POST /admin/keys/{id}/rotate: for how long the secrets before go on."""

    model_config = ConfigDict(extra="forbid")

    grace: str = Field(default="24h", max_length=MAX_TIME)


def add_keys(app: FastAPI, gateway: Gateway) -> None:
    """Routes of the scope admin. A secret is told once, in the answer that makes it."""

    @app.get("/admin/keys")
    async def keys() -> dict[str, Any]:
        now_ms = _now_ms()
        ring = gateway.ring
        told = [about(key, now_ms) for key in sorted(ring.keys.values(), key=lambda key: (key.created_ms, key.id))]
        return {"keys": told, "age_s": round(ring.age_s, 3)}

    @app.post("/admin/keys", status_code=201)
    async def create(body: NewKey, request: Request) -> JSONResponse:
        gateway.check_tenant(body.tenant, body.scopes)
        secret, now_ms = api_keys.new_secret(), _now_ms()
        key = ApiKey(
            id=api_keys.new_id(),
            tenant=body.tenant,
            scopes=tuple(dict.fromkeys(body.scopes)),
            created_ms=now_ms,
            changed_ms=now_ms,
            secrets=(StoredSecret(api_keys.digest_of(secret)),),
            expires_ms=_expiry(body, now_ms),
            note=body.note,
        )
        await gateway.ring.put(key, None)
        await _record(gateway, request, "key.create", None, about(key, now_ms))
        return _with_secret(key, secret, now_ms, 201)

    @app.delete("/admin/keys/{key_id}")
    async def revoke(key_id: str, request: Request) -> dict[str, Any]:
        found, now_ms = _known(gateway, key_id), _now_ms()
        key = found.revoked(now_ms)
        if key is not found:
            await gateway.ring.put(key, found)
            await _record(gateway, request, "key.revoke", about(found, now_ms), about(key, now_ms))
        return about(key, now_ms)

    @app.post("/admin/keys/{key_id}/rotate")
    async def rotate(key_id: str, body: Rotation, request: Request) -> JSONResponse:
        found, secret, now_ms = _known(gateway, key_id), api_keys.new_secret(), _now_ms()
        grace_ms = _parsed("grace", timestamps.duration_ms, body.grace)
        try:
            key = found.rotated(api_keys.digest_of(secret), now_ms, grace_ms)
        except ConfigurationError as error:
            raise ApiError(409, str(error), code="key_not_rotated", param="id") from None
        await gateway.ring.put(key, found)
        await _record(gateway, request, "key.rotate", about(found, now_ms), about(key, now_ms))
        return _with_secret(key, secret, now_ms, 200)

    @app.get("/admin/audit")
    async def audit(limit: Annotated[int, Query(ge=1, le=AUDIT_MAXLEN)] = 100) -> dict[str, Any]:
        return {"events": await gateway.audit.latest(limit)}


def about(key: ApiKey, now_ms: int) -> dict[str, Any]:
    """What people may read of a key: no digest."""
    verdict = key.verdict(now_ms)
    ends = [one.until_ms for one in key.secrets if one.until_ms is not None and one.until_ms > now_ms]
    return {
        "id": key.id,
        "tenant": key.tenant,
        "scopes": list(key.scopes),
        "created": timestamps.iso(key.created_ms),
        "expires": _iso(key.expires_ms),
        "revoked": _iso(key.revoked_ms),
        "status": "active" if verdict is Verdict.OK else verdict.value,
        "earlier_secrets_until": [timestamps.iso(end_ms) for end_ms in ends],
        "note": key.note,
    }


def _with_secret(key: ApiKey, secret: str, now_ms: int, status: int) -> JSONResponse:
    told = {**about(key, now_ms), "key": api_keys.spelled(key.id, secret)}
    return JSONResponse(told, status, {"cache-control": "no-store"})


def _known(gateway: Gateway, key_id: str) -> ApiKey:
    key = gateway.ring.keys.get(key_id)
    if key is None:
        raise ApiError(404, f"There is no API key {key_id[:32]!r}", code="key_not_found", param="id")
    return key


def _expiry(body: NewKey, now_ms: int) -> int | None:
    if body.expires is not None and body.expires_in is not None:
        raise invalid("expires_in", "a key has at most one of expires and expires_in")
    if body.expires_in is not None:
        found = now_ms + _parsed("expires_in", timestamps.duration_ms, body.expires_in)
    elif body.expires is not None:
        found = _parsed("expires", timestamps.at_ms, body.expires)
    else:
        return None
    if not now_ms < found <= timestamps.MAX_MS:
        raise invalid(
            "expires" if body.expires else "expires_in", f"{_iso(min(found, timestamps.MAX_MS))} is over"
        )
    return found


def _parsed(field: str, parse: Any, text: str) -> int:
    try:
        return int(parse(text))
    except ConfigurationError as error:
        raise invalid(field, str(error)) from None


async def _record(gateway: Gateway, request: Request, what: str, before: Any, after: Any) -> None:
    caller: Caller = request.state.caller
    await gateway.audit.record(
        what, who=caller.key_id, before=before, after=after, request_id=request.state.request_id
    )


def _iso(at_ms: int | None) -> str | None:
    return None if at_ms is None else timestamps.iso(at_ms)


def _now_ms() -> int:
    return round(time.time() * 1_000)
