"""`/v1/streams/{id}`: take a stream up again on any gateway, or cancel it."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response

from services.gateway.answer import Answer
from services.gateway.handler import Gateway
from services.gateway.sse import EventStream, events
from services.gateway.stream_ids import LAST_EVENT_ID, STREAM_HEADER
from services.gateway.told import terms_headers


def add_streams(app: FastAPI, gateway: Gateway) -> None:
    """Routes by the request's id, which the first gateway has told."""

    @app.get("/v1/streams/{stream}", response_model=None)
    async def resume(stream: str, request: Request) -> Response:
        answer = await gateway.resume(stream, request.headers.get(LAST_EVENT_ID), request.headers)
        return event_stream(gateway, answer, {})

    @app.get("/v1/streams/{stream}/inspect", response_model=None)
    async def inspect(stream: str, request: Request, after: str | None = None) -> Response:
        told = await gateway.inspection.iterations(gateway.tenant(request.headers), stream, after)
        return Response(told, media_type="application/json")

    @app.delete("/v1/streams/{stream}")
    async def cancel(stream: str, request: Request) -> dict[str, Any]:
        return await gateway.cancel(stream, request.headers)


def event_stream(gateway: Gateway, answer: Answer, headers: dict[str, str]) -> Response:
    """The answer as server-sent events."""
    chunks = events(answer, keep_alive_s=gateway.settings.keep_alive_s)
    return EventStream(
        chunks, answer.close, {**headers, **answer_headers(answer)}, patience_s=gateway.settings.slow_client_s
    )


def answer_headers(answer: Answer) -> dict[str, str]:
    """What each choice's stream is called, for a client that loses it before its first event; and the terms."""
    first = answer.completions[0]
    return {
        STREAM_HEADER: ", ".join(completion.id for completion in answer.completions),
        **terms_headers(first.slo, first.form, first.request),
        **answer.limits,
    }
