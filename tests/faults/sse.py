"""A small HTTP client over asyncio sockets, for clients by the thousand: one request per connection."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from typing import Any

ANSWER_S = 60.0


class Answer:
    """Status, headers (names in lower case) and the reader of the rest."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.status = 0
        self.headers: dict[str, str] = {}

    async def head(self) -> None:
        """Reads up to the body. Raises ConnectionError where there is nothing."""
        line = await self._line()
        if not line:
            raise ConnectionError("closed before it answered")
        self.status = int(line.split()[1])
        while (line := await self._line()).strip():
            name, _, value = line.decode().partition(":")
            self.headers[name.lower()] = value.strip()

    async def fields(self) -> AsyncIterator[tuple[str, str]]:
        """``(field, value)`` of an event stream, up to its end. The sizes of chunks are lines without a field."""
        while line := await self._line():
            name, colon, value = line.decode().rstrip().partition(": ")
            if colon:
                yield name, value

    async def body(self) -> Any:
        """JSON of known length."""
        async with asyncio.timeout(ANSWER_S):
            return json.loads(await self._reader.readexactly(int(self.headers["content-length"])))

    async def _line(self) -> bytes:
        async with asyncio.timeout(ANSWER_S):
            return await self._reader.readline()

    def leave(self) -> None:
        """Close with FIN."""
        self._writer.close()

    def reset(self) -> None:
        """Close with RST."""
        linger = struct.pack("ii", 1, 0)
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._writer.transport.abort()


async def ask(
    port: int,
    method: str,
    path: str,
    body: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Send a request; its answer is still to be read. Raises OSError."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    content = b"" if body is None else json.dumps(body).encode()
    sent = {
        "host": "localhost",
        "content-type": "application/json",
        "content-length": len(content),
        **(headers or {}),
    }
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items()), "", ""]
    writer.write("\r\n".join(lines).encode() + content)
    await writer.drain()
    return Answer(reader, writer)
