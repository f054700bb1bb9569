"""What only operators may do or see: /admin/mode and /admin/slo."""

from __future__ import annotations

import hmac
import time
from typing import Any

from fastapi import Depends, FastAPI, Request
from pydantic import BaseModel, ConfigDict, Field

from services.gateway.errors import ApiError, invalid
from services.gateway.handler import Gateway
from services.gateway.settings import GatewaySettings, is_loopback
from shared.errors import ConfigurationError
from shared.modes import MAX_NAME, MAX_REASON, Mode, Order, scope


class ModeOrder(BaseModel):
    """Body of PUT /admin/mode: for the cell, or for one tenant or class."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    mode: Mode
    tenant: str | None = Field(default=None, max_length=MAX_NAME)
    slo_class: str | None = Field(default=None, alias="class", max_length=MAX_NAME)
    reason: str = Field(default="", max_length=MAX_REASON)


def add_admin(app: FastAPI, gateway: Gateway) -> None:
    """Routes that want the admin key; without one they are open on a gateway that listens on loopback only."""

    def by(request: Request) -> str:
        return operator_of(gateway.settings, request.headers.get("authorization", ""))

    @app.get("/admin/mode")
    async def modes(request: Request) -> dict[str, Any]:
        by(request)
        return await gateway.modes()

    @app.get("/admin/slo")
    async def slo(request: Request) -> dict[str, Any]:
        by(request)
        return gateway.promises()

    @app.put("/admin/mode", dependencies=[Depends(by)])  # asked for the key before the body is judged
    async def order(body: ModeOrder, request: Request) -> dict[str, Any]:
        try:
            place = scope(tenant=body.tenant, slo_class=body.slo_class)
        except ConfigurationError as error:
            raise invalid("tenant" if body.tenant is not None else "class", str(error)) from None
        at_ms = round(time.time() * 1_000)
        await gateway.order(place, Order(mode=body.mode, reason=body.reason, by=by(request), at_ms=at_ms))
        return await gateway.modes()


def operator_of(settings: GatewaySettings, authorization: str) -> str:
    """Who asks. Raises ApiError 401."""
    if settings.admin_key is None:
        if is_loopback(settings.http_host):
            return "loopback"
        raise ApiError(401, "No admin key is set: start the gateway with ADASERVE_ADMIN_KEY", code="no_admin_key")
    scheme, _, key = authorization.partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(key.strip().encode(), settings.admin_key.encode()):
        raise ApiError(401, "The admin key is missing or wrong", code="invalid_admin_key")
    return "admin"
