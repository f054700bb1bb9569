"""The HTTP interface: OpenAI's two completion endpoints, the models, the probes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException

from services.gateway import errors, unsupported
from services.gateway.admin import add_admin
from services.gateway.admission import Leaving
from services.gateway.answer import Answer
from services.gateway.authentication import Authentication
from services.gateway.bodies import JsonRoute
from services.gateway.description.document import document
from services.gateway.errors import ApiError
from services.gateway.handler import Gateway
from services.gateway.keys_api import add_keys
from services.gateway.leaving import unless_left
from services.gateway.middleware import CLIENT_CLOSED, BodyLimits, RequestContext
from services.gateway.output import Piece
from services.gateway.requests_api import add_requests
from services.gateway.responses import Shape, shape_of, whole
from services.gateway.schemas import ChatRequest, CompletionRequest
from services.gateway.static_files import add_console
from services.gateway.streams_api import add_streams, answer_headers, event_stream
from services.gateway.tasks import end
from services.gateway.tokenize_api import add_tokenize
from services.gateway.upstream import Detour
from services.gateway.usage_api import add_usage
from shared.health import PROMETHEUS_TEXT

VERSION = version("adaserve")


def create_app(gateway: Gateway) -> FastAPI:
    """The application of one gateway; whoever calls it starts and stops the gateway."""
    app = FastAPI(title="AdaServe", version=VERSION, openapi_url=None, redirect_slashes=False)
    app.router.route_class = JsonRoute
    app.add_middleware(BodyLimits)
    app.add_middleware(Authentication, authenticator=gateway.authenticator)
    app.add_middleware(RequestContext, telemetry=gateway.telemetry, is_draining=lambda: gateway.is_draining)
    app.add_exception_handler(ApiError, errors.on_api_error)
    app.add_exception_handler(RequestValidationError, errors.on_validation_error)
    app.add_exception_handler(HTTPException, errors.on_http_error)
    _add_completions(app, gateway)
    add_streams(app, gateway)
    add_tokenize(app, gateway)
    _add_models(app, gateway)
    _add_probes(app, gateway)
    add_admin(app, gateway)
    add_keys(app, gateway)
    add_usage(app, gateway)
    add_requests(app, gateway)
    add_console(app)
    return app


def _add_completions(app: FastAPI, gateway: Gateway) -> None:
    @app.post("/v1/chat/completions", response_model=None)
    async def chat(body: ChatRequest, request: Request) -> Response:
        if None not in (body.max_tokens, body.max_completion_tokens) and body.max_tokens != body.limit:
            raise errors.invalid("max_tokens", f"{body.max_tokens} contradicts max_completion_tokens {body.limit}")
        if body.top_logprobs and not body.logprobs:
            raise errors.invalid("top_logprobs", "is only allowed when logprobs is true")
        return await _complete(gateway, body, request)

    @app.post("/v1/completions", response_model=None)
    async def completions(body: CompletionRequest, request: Request) -> Response:
        return await _complete(gateway, body, request)


async def _complete(gateway: Gateway, body: ChatRequest | CompletionRequest, request: Request) -> Response:
    headers = unsupported.warning(unsupported.check(body))
    if body.stream_options is not None and not body.stream:
        raise errors.invalid("stream_options", "is only allowed when stream is true")
    answer = await gateway.submit(body, request.headers)
    if isinstance(answer, Detour):
        stream_patience_s = gateway.settings.slow_client_s
        return await gateway.upstream.forward(answer, request, headers, patience_s=stream_patience_s)
    if body.stream:
        return event_stream(gateway, answer, headers)
    try:
        return await _whole(answer, request, headers)
    finally:
        answer.close()


async def _whole(answer: Answer, request: Request, headers: Mapping[str, str]) -> Response:
    """The answer in one piece, unless the client leaves before it is there."""
    collected = await unless_left(request, _collect(answer))
    if collected is None:
        return Response(status_code=CLIENT_CLOSED)  # nobody reads it
    return JSONResponse(collected, headers={**headers, **answer_headers(answer)})


async def _collect(answer: Answer) -> dict[str, Any]:
    shapes = [shape_of(completion) for completion in answer.completions]
    collecting = [asyncio.create_task(_choice(shape)) for shape in shapes]
    try:
        choices = await asyncio.gather(*collecting)
    except Leaving:
        raise answer.leaving() from None
    finally:
        await end(collecting)
    return whole(shapes, choices, answer.accounts)


async def _choice(shape: Shape) -> dict[str, Any]:
    texts: list[str] = []
    tokens: list[int] = []
    async for piece in shape.completion.pieces(keep_alive_s=float("inf")):
        if piece is not None:
            texts.append(piece.text)
            tokens += piece.tokens
    return shape.choice(Piece("".join(texts), tokens, shape.position + len(tokens)))


def _add_models(app: FastAPI, gateway: Gateway) -> None:
    def about(request: Request) -> dict[str, Any]:
        return {
            "id": gateway.settings.model_id,
            "object": "model",
            "created": gateway.started,
            "owned_by": "adaserve",
            "max_model_len": gateway.context_limit,
            "zero_load_ms": gateway.zero_load_ms,
            "slo_classes": gateway.slo_classes(request.headers),
        }

    @app.get("/v1/models")
    async def models(request: Request) -> dict[str, Any]:
        return {"object": "list", "data": [about(request)]}

    @app.get("/v1/models/{model}")
    async def model(model: str, request: Request) -> dict[str, Any]:
        if not gateway.serves(model):
            raise ApiError(404, f"model: {model[:64]!r} is not served here", code="model_not_found", param="model")
        return about(request)


def _add_probes(app: FastAPI, gateway: Gateway) -> None:
    @app.get("/live")
    async def live() -> Response:
        return _probe(gateway.is_alive)

    @app.get("/ready")
    async def ready() -> Response:
        return _probe(await gateway.is_ready())

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(gateway.telemetry.prometheus(), media_type=PROMETHEUS_TEXT)

    @app.get("/openapi.json")
    async def described() -> dict[str, Any]:
        return document(VERSION)

    @app.get("/version")
    async def about_version() -> dict[str, str]:
        return {"version": VERSION}


def _probe(holds: bool) -> Response:
    return PlainTextResponse("ok\n" if holds else "no\n", 200 if holds else 503)
