"""What only operators may do or see: /admin/mode, /admin/slo, /admin/rollout, /admin/live, /admin/streams."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Literal

from fastapi import FastAPI, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from services.gateway import ramp
from services.gateway.authentication import Caller
from services.gateway.errors import invalid
from services.gateway.handler import Gateway
from services.gateway.looks import Looks
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
    """Routes of the scope admin (services.gateway.authentication)."""
    _add_looks(app, gateway)

    @app.get("/admin/mode")
    async def modes() -> dict[str, Any]:
        return await gateway.modes()

    @app.get("/admin/slo")
    async def slo() -> dict[str, Any]:
        return gateway.promises()

    @app.get("/admin/rollout")
    async def rollout() -> dict[str, Any]:
        return gateway.rollouts.about()

    @app.put("/admin/rollout")
    async def change_rollout(body: RolloutOrder, request: Request) -> dict[str, Any]:
        caller: Caller = request.state.caller
        return await gateway.rollouts.order(body.change(), caller.key_id)

    @app.put("/admin/mode")
    async def order(body: ModeOrder, request: Request) -> dict[str, Any]:
        try:
            place = scope(tenant=body.tenant, slo_class=body.slo_class)
        except ConfigurationError as error:
            raise invalid("tenant" if body.tenant is not None else "class", str(error)) from None
        if body.mode is not Mode.AUTO:  # an order for what the policy had before can always be withdrawn
            gateway.check_scope(body.tenant, body.slo_class)
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


def _add_looks(app: FastAPI, gateway: Gateway) -> None:
    """What runs now, and what an inspected request was given."""
    looks = Looks()

    @app.get("/admin/live")
    async def live() -> dict[str, Any]:
        return await gateway.live.snapshot()

    @app.get("/admin/streams/{stream}/inspect", response_model=None)
    async def inspect(stream: str, request: Request, after: str | None = None) -> Response:
        caller: Caller = request.state.caller
        told = await gateway.inspection.iterations(None, stream, after)
        if looks.is_new(caller.key_id, stream, time.monotonic()):
            await gateway.audit.record(
                "stream.inspect", who=caller.key_id, after={"stream": stream}, request_id=request.state.request_id
            )
        return Response(told, media_type="application/json")
