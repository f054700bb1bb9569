"""What only operators may do or see: /admin/mode and /admin/slo."""

from __future__ import annotations

import time
from typing import Any

from fastapi import FastAPI, Request
from pydantic import BaseModel, ConfigDict, Field

from services.gateway.authentication import Caller
from services.gateway.errors import invalid
from services.gateway.handler import Gateway
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
    """Routes of the scope admin (services.gateway.authentication)."""

    @app.get("/admin/mode")
    async def modes() -> dict[str, Any]:
        return await gateway.modes()

    @app.get("/admin/slo")
    async def slo() -> dict[str, Any]:
        return gateway.promises()

    @app.put("/admin/mode")
    async def order(body: ModeOrder, request: Request) -> dict[str, Any]:
        try:
            place = scope(tenant=body.tenant, slo_class=body.slo_class)
        except ConfigurationError as error:
            raise invalid("tenant" if body.tenant is not None else "class", str(error)) from None
        at_ms = round(time.time() * 1_000)
        caller: Caller = request.state.caller
        before = (await gateway.modes())["orders"].get(place)
        given = Order(mode=body.mode, reason=body.reason, by=caller.key_id, at_ms=at_ms)
        await gateway.order(place, given)
        await gateway.audit.record(
            "mode.set",
            who=caller.key_id,
            before={place: before},
            after={place: given.json()},
            request_id=request.state.request_id,
        )
        return await gateway.modes()
