"""Server-sent events as OpenAI sends them, and a response that always notices its client leaving."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from services.gateway.admission import Leaving
from services.gateway.answer import Answer, merged
from services.gateway.errors import ApiError, internal, report_bug
from services.gateway.responses import Shape, shape_of

logger = logging.getLogger(__name__)

DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"
RETRY_MS = 100  # before a client whose server is being stopped comes back: others are there already
HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


class _NotRead(Exception):
    """The client has taken nothing for too long."""


class EventStream(StreamingResponse):
    """Calls ``on_close`` when the body has ended, for whatever reason: the end, an error, a client that left.

    A client that takes nothing for ``patience_s`` counts as one that left. Until then its events wait here, at
    most those of its own answer; what others get does not depend on it.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncIterator[bytes],
        on_close: Callable[[], None],
        headers: dict[str, str],
        *,
        patience_s: float,
    ) -> None:
        super().__init__(events, headers={**HEADERS, **headers})
        self._on_close = on_close
        self._patience_s = patience_s

    async def stream_response(self, send: Send) -> None:
        async def send_in_time(message: Message) -> None:
            try:
                async with asyncio.timeout(self._patience_s):
                    await send(message)
            except TimeoutError:
                raise _NotRead from None

        try:
            await super().stream_response(send_in_time)
        except _NotRead:
            logger.warning("a client has not read its stream for %g s and is given up", self._patience_s)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._on_close()


async def events(answer: Answer, *, keep_alive_s: float) -> AsyncIterator[bytes]:
    """The body of one stream, or its rest after the event that the client has seen.

    The choices' chunks come as they are made, each with its index. An ApiError becomes an event: a stream never
    ends without a word. One that this gateway leaves ends with the id of the last text, so that a client can go on
    elsewhere; of several choices each is a stream of its own there.
    """
    shapes = [shape_of(completion) for completion in answer.completions]
    try:
        async for event in merged([_choice(shape, keep_alive_s) for shape in shapes]):
            yield event
        if shapes[0].form.with_usage:
            yield _event(shapes[0], shapes[0].usage(answer.accounts))
        yield DONE
    except Leaving as error:
        answer.close(error.code)
        if len(shapes) == 1:
            yield f"retry: {RETRY_MS}\n".encode() + b"event: error\n" + _event(shapes[0], error.body())
        else:
            yield b"event: error\n" + _data(answer.leaving().body())
    except ApiError as error:
        answer.close(error.code)
        yield b"event: error\n" + _data(error.body())
    except Exception as error:  # a bug: the client is told, the log gets the frames
        report_bug(answer.completions[0].id, error)
        answer.close(type(error).__name__)
        yield b"event: error\n" + _data(internal().body())


async def _choice(shape: Shape, keep_alive_s: float) -> AsyncGenerator[bytes, None]:
    """One choice from its opening to its finish reason."""
    completion = shape.completion
    if completion.seen is None and (opening := shape.opening()) is not None:
        yield _event(shape, opening)
    async for piece in completion.pieces(keep_alive_s):
        if piece is None:
            yield KEEP_ALIVE
        elif (chunk := shape.piece(piece)) is not None:
            yield _event(shape, chunk)
    yield _event(shape, shape.closing())


def _event(shape: Shape, chunk: dict[str, Any]) -> bytes:
    """``id`` names the choice's request and the last position whose text has been sent."""
    return f"id: {shape.completion.event_id(shape.position)}\n".encode() + _data(chunk)


def _data(chunk: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(chunk, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"
