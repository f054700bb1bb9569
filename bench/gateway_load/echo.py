"""What a gateway is compared with: FastAPI that sends a recorded stream, `python -m bench.gateway_load.echo`.

No Redis, no tokens, no JSON: the events are bytes from a file. Between two of them a stream lets the others have
their turn, as streams do whose events come one at a time; it never waits for anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import uvicorn
import uvloop
from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse, StreamingResponse
from pydantic import Field

from shared.process import run
from shared.settings import ServiceSettings


class EchoSettings(ServiceSettings):
    """What the echo reads."""

    recording: Path = Field(description="the events of a stream, as a gateway has sent them")


def create_app(events: list[bytes]) -> FastAPI:
    """Answers every completion with the same events."""
    app = FastAPI()

    async def told() -> AsyncIterator[bytes]:
        for event in events:
            await asyncio.sleep(0)
            yield event

    @app.post("/v1/completions", response_model=None)
    async def completions(request: Request) -> StreamingResponse:
        await request.body()
        return StreamingResponse(told(), media_type="text/event-stream")

    @app.get("/ready")
    async def ready() -> PlainTextResponse:
        return PlainTextResponse("ok\n")

    return app


def serve(settings: EchoSettings) -> None:
    """Until a signal."""
    events = [event + b"\n\n" for event in settings.recording.read_bytes().split(b"\n\n") if event]
    config = uvicorn.Config(
        create_app(events),
        host=settings.http_host,
        port=settings.http_port,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(uvicorn.Server(config).serve())


if __name__ == "__main__":
    run(EchoSettings, serve)
