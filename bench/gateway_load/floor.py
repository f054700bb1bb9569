"""The least that a gateway on Redis Streams does: `python -m bench.gateway_load.floor`, ours but for two parts.

An entry is only unpacked, unchecked, and handed to its request; an event that goes out is the recorded one,
whatever tokens came. There is no digest, no text, no JSON, no position and no metrics: what is left is reading
Redis, a task for each stream, and HTTP. What the real gateway spends beyond this is its own code.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgpack
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.gateway import sse
from services.gateway.answer import Answer
from services.gateway.delivery import terminal
from services.gateway.open_stream import OpenStream
from services.gateway.streams import Streams
from shared.streams import Entry


class Load(BaseSettings):
    """What the floor reads besides the gateway's settings, which know no others."""

    model_config = SettingsConfigDict(env_prefix="LOAD_")

    recording: Path


def dispatch(streams: Streams, entry: Entry) -> None:
    """In place of `Streams._dispatch`: a request is handed its finish reason, "" while it has none."""
    event: dict[str, Any] = msgpack.unpackb(entry.body)
    stream = streams._open.get(event["request"])
    if stream is not None:
        finish: Any = event["finish"] or ""
        stream.put(finish)


class Floor:
    """``recorded``: the events of a stream, as a gateway has sent them."""

    def __init__(self, recorded: list[bytes]) -> None:
        self._event, *_, self._closing, self._done = recorded

    async def events(self, answer: Answer, *, keep_alive_s: float) -> AsyncIterator[bytes]:  # noqa: ARG002
        """In place of `sse.events`; what is there at once is sent at once, as there."""
        (completion,) = answer.completions
        stream = completion._stream
        assert stream is not None
        finish, ready = "", []
        while not finish:
            put: Any = await stream.next(math.inf)
            finish = put
            ready.append(self._event)
            if len(ready) >= sse.MAX_AT_ONCE or not stream.has_next:
                yield b"".join(ready)
                ready.clear()
        stream.delivery.end = terminal(completion.id, finish)
        yield self._closing + self._done


def main() -> None:
    """As the gateway's own, with the two parts replaced before anybody has imported them."""
    whole = Load().recording.read_bytes()
    floor = Floor([event + b"\n\n" for event in whole.split(b"\n\n") if event])
    gateway_streams: Any = Streams
    gateway_streams._dispatch = dispatch
    open_stream: Any = OpenStream
    open_stream.is_overdue = lambda _: False  # what was counted nowhere cannot be healed
    sse.events = floor.events
    from services.gateway.__main__ import main as gateway

    gateway()


if __name__ == "__main__":
    main()
