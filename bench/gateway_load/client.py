"""Keeps so many streams open until its input ends: `python -m bench.gateway_load.client '{"port": ...}'`.

It reads sockets and counts the ends of events, nothing else: an event is three searches in bytes. Whoever has got
the last one asks again on the same connection. Prints ``open`` when every stream has its headers, and in the end
what it saw, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import uvloop

from bench.gateway_load.board import KEPT, Board, map_board

AT_ONCE = 16  # streams being opened
OPEN_S = 120.0
HEAD_END = b"\r\n\r\n"
BODY_END = b"0\r\n\r\n"
KEEP_ALIVE = b": keep-alive"
TAIL = 2  # events of each answer that carry no tokens: its finish reason, and `[DONE]`


@dataclass(kw_only=True)
class Crowd:
    """All streams of this process."""

    port: int
    streams: int
    events: int  # with tokens, of each answer
    body: dict[str, Any]
    board: Board
    seen: Counter[str] = field(default_factory=Counter)
    open: set[int] = field(default_factory=set)
    is_over: bool = False

    def request(self, place: int) -> bytes:
        content = json.dumps({**self.body, "seed": place}).encode()
        head = "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        return f"{head}content-length: {len(content)}\r\n\r\n".encode() + content


class Stream(asyncio.Protocol):
    """One place: one connection, one request after the other."""

    def __init__(self, crowd: Crowd, place: int) -> None:
        self._crowd, self._place = crowd, place
        self._num_events = 0
        self._head: bytes | None = b""
        self._last = b""
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        self._num_events, self._head, self._last = 0, b"", b""
        self._transport.write(self._crowd.request(self._place))

    def data_received(self, data: bytes) -> None:
        if self._head is not None:
            self._head += data
            head, _, data = self._head.partition(HEAD_END)
            if head == self._head:
                return
            self._begin(head)
        crowd = self._crowd
        num_ends = data.count(b"\n\n") + (self._last[-1:] == b"\n" and data[:1] == b"\n")
        if KEEP_ALIVE in data:
            crowd.seen["keep-alives"] += data.count(KEEP_ALIVE)
            num_ends -= data.count(KEEP_ALIVE)
        self._note(min(num_ends, crowd.events - self._num_events))
        self._num_events += num_ends
        self._last = (self._last + data)[-len(BODY_END) :]
        if self._last == BODY_END:
            self._end()

    def _note(self, num_events: int) -> None:
        board, place = self._crowd.board, self._place
        if num_events > 0:
            first, now_ms = int(board.received[place]), time.time() * 1000
            for number in range(first, first + num_events):
                board.received_ms[place, number % KEPT] = now_ms
            board.received[place] = first + num_events

    def _begin(self, head: bytes) -> None:
        self._head = None
        self._crowd.open.add(self._place)
        if not head.startswith(b"HTTP/1.1 200"):
            self._crowd.seen[head.split(b"\r\n")[0].decode()] += 1

    def _end(self) -> None:
        crowd = self._crowd
        crowd.seen["whole" if self._num_events == crowd.events + TAIL else "not whole"] += 1
        if not crowd.is_over:
            self._ask()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's
        if not self._crowd.is_over:
            self._crowd.seen["lost"] += 1


async def run(crowd: Crowd) -> None:
    """Until standard input ends."""
    loop = asyncio.get_running_loop()
    places = iter(range(crowd.streams))
    transports: list[asyncio.BaseTransport] = []

    async def connect() -> None:
        for place in places:
            transport, _ = await loop.create_connection(partial(Stream, crowd, place), "127.0.0.1", crowd.port)
            transports.append(transport)
            while place not in crowd.open:  # noqa: ASYNC110 - there is no event for it
                await asyncio.sleep(0.005)

    async with asyncio.timeout(OPEN_S):
        await asyncio.gather(*(connect() for _ in range(AT_ONCE)))
    print("open", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    crowd.is_over = True
    for transport in transports:
        transport.close()
    print(json.dumps(crowd.seen), flush=True)


def main() -> None:
    """The one argument is JSON: Crowd's fields, and the board's path."""
    about = json.loads(sys.argv[1])
    crowd = Crowd(**{**about, "board": map_board(Path(about["board"]))})
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(crowd))


if __name__ == "__main__":
    main()
