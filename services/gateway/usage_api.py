"""/admin/usage: what tenants have used, hour by hour or day by day."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import FastAPI, Query
from fastapi.responses import JSONResponse, Response

from services.gateway import usage_report
from services.gateway.handler import Gateway
from shared.usage import Period

MAX_TIME = 64  # characters
CSV = "text/csv; charset=utf-8"

Time = Annotated[str | None, Query(max_length=MAX_TIME)]


def add_usage(app: FastAPI, gateway: Gateway) -> None:
    """A route of the scope admin."""

    @app.get("/admin/usage")
    async def usage(
        since: Time = None,
        until: Time = None,
        tenant: str | None = None,
        by: Period = Period.DAY,
        told: Annotated[Literal["json", "csv"], Query(alias="format")] = "json",
    ) -> Response:
        asked = usage_report.wanted(since, until, by, tenant, datetime.now(UTC))
        rows = await gateway.usage(asked)
        if told == "json":  # not on the loop that serves: it may be megabytes
            return await asyncio.to_thread(lambda: JSONResponse(usage_report.in_json(asked, rows)))
        name = f"usage-{asked.since:%Y%m%d%H}-{asked.until:%Y%m%d%H}.csv"
        headers = {"content-disposition": f'attachment; filename="{name}"'}
        text = await asyncio.to_thread(usage_report.in_csv, rows)
        return Response(text, media_type=CSV, headers=headers)
