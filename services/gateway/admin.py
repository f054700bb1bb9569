"""What only operators may do or see: /admin/mode, /admin/slo and /admin/rollout."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable
from typing import Any, Literal

from fastapi import Depends, FastAPI, Request
from pydantic import BaseModel, ConfigDict, Field

from services.gateway import ramp
from services.gateway.errors import ApiError, invalid
from services.gateway.handler import Gateway
from services.gateway.settings import GatewaySettings, is_loopback
from shared.errors import ConfigurationError
from shared.modes import MAX_NAME, MAX_REASON, Mode, Order, scope
from shared.rollout import MAX_STEPS


class ModeOrder(BaseModel):
    """Body of PUT /admin/mode: for the cell, or for one tenant or class."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    mode: Mode
    tenant: str | None = Field(default=None, max_length=MAX_NAME)
    slo_class: str | None = Field(default=None, alias="class", max_length=MAX_NAME)
    reason: str = Field(default="", max_length=MAX_REASON)


class RolloutOrder(BaseModel):
    """Body of PUT /admin/rollout: a step to go to (0 treats nobody), or to halt, or to go on."""

    model_config = ConfigDict(extra="forbid", strict=True)

    step: int | None = Field(default=None, ge=0, le=MAX_STEPS)
    halt: Literal[True] | None = None
    resume: Literal[True] | None = None
    reason: str = Field(default="by order", min_length=1, max_length=MAX_REASON)

    def change(self) -> Callable[[ramp.Stage, int], ramp.Stage]:
        """What it does to the stage. Raises ApiError 400 unless exactly one thing is ordered."""
        if [self.step, self.halt, self.resume].count(None) != 2:
            raise invalid("step", "give exactly one of step, halt and resume")
        return self._applied

    def _applied(self, stage: ramp.Stage, now_ms: int) -> ramp.Stage:
        if self.halt:
            return ramp.halted(stage, self.reason)
        if self.step is None:
            return ramp.resumed(stage, now_ms)
        if self.step > len(stage.steps):
            raise invalid("step", f"{self.step} is more than the rollout's steps, {len(stage.steps)}")
        return ramp.set_to(stage, self.step, now_ms)


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

    @app.get("/admin/rollout")
    async def rollout(request: Request) -> dict[str, Any]:
        by(request)
        return gateway.rollouts.about()

    @app.put("/admin/rollout", dependencies=[Depends(by)])
    async def change_rollout(body: RolloutOrder, request: Request) -> dict[str, Any]:
        return await gateway.rollouts.order(body.change(), by(request))

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
