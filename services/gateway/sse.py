"""Server-sent events as OpenAI sends them, and a response that always notices its client leaving."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from services.gateway.admission import Leaving
from services.gateway.answer import Answer, merged
from services.gateway.errors import ApiError, internal, report_bug
from services.gateway.padding import pad
from services.gateway.responses import Shape, encode, shape_of

logger = logging.getLogger(__name__)

DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"
RETRY_MS = 100  # before a client whose server is being stopped comes back: others are there already
HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}
MAX_AT_ONCE = 32  # events in one write, of those that have come together


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
        try:
            async with asyncio.timeout(None) as limit:
                watched = _Watched(send, limit, self._patience_s)
                try:
                    await super().stream_response(watched)
                finally:
                    watched.end()
        except TimeoutError:
            if not limit.expired():
                raise
            logger.warning("a client has not read its stream for %g s and is given up", self._patience_s)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._on_close()


class _Watched:
    """Sends, and ends it all when one message has waited for `patience_s`.

    One timer for the whole stream, set anew only when it fires: a timeout around each message would cost more than
    the message.
    """

    def __init__(self, send: Send, limit: asyncio.Timeout, patience_s: float) -> None:
        self._send, self._limit, self._patience_s = send, limit, patience_s
        self._waits_since = math.inf
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(patience_s, self._look)

    async def __call__(self, message: Message) -> None:
        self._waits_since = self._loop.time()
        await self._send(message)
        self._waits_since = math.inf

    def end(self) -> None:
        """Look no more."""
        self._timer.cancel()

    def _look(self) -> None:
        now = self._loop.time()
        if now - self._waits_since >= self._patience_s:
            self._limit.reschedule(now)
        else:
            self._timer = self._loop.call_at(min(now, self._waits_since) + self._patience_s, self._look)


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
            yield _event(shapes[0], shapes[0].usage(answer.accounts)).encode()
        yield DONE
    except Leaving as error:
        answer.close(error.code)
        if len(shapes) == 1:
            yield f"retry: {RETRY_MS}\nevent: error\n{_event(shapes[0], error.body())}".encode()
        else:
            yield _error(answer.leaving().body())
    except ApiError as error:
        answer.close(error.code)
        yield _error(error.body())
    except Exception as error:  # a bug: the client is told, the log gets the frames
        report_bug(answer.completions[0].id, error)
        answer.close(type(error).__name__)
        yield _error(internal().body())


async def _choice(shape: Shape, keep_alive_s: float) -> AsyncGenerator[bytes, None]:
    """One choice from its opening to its finish reason."""
    completion = shape.completion
    if completion.seen is None and (opening := shape.opening()) is not None:
        yield _event(shape, opening).encode()
    ready: list[str] = []
    try:
        async for piece in completion.pieces(keep_alive_s):
            if piece is None:
                yield KEEP_ALIVE
                continue
            if (chunk := shape.piece(piece)) is not None:
                ready.append(_event(shape, chunk))
            if ready and (len(ready) >= MAX_AT_ONCE or not completion.has_next):
                yield "".join(ready).encode()
                ready.clear()
    except Exception:  # what came before an error is told before it
        if ready:
            yield "".join(ready).encode()
        raise
    ready.append(_event(shape, shape.closing()))
    yield "".join(ready).encode()


def _event(shape: Shape, chunk: str | dict[str, Any]) -> str:
    """``id`` names the choice's request and the last position whose text has been sent."""
    data = chunk if isinstance(chunk, str) else encode(chunk)
    name = shape.completion.event_id(shape.position)
    event = f"id: {name}\ndata: {data}\n\n"
    return pad(event, name, shape.form.padding) if shape.form.padding else event


def _error(body: dict[str, Any]) -> bytes:
    return f"event: error\ndata: {encode(body)}\n\n".encode()
