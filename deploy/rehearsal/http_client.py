"""HTTP over a connection that is kept: an ordinary client's, which knows nothing of resuming a stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

ANSWER_S = 90.0


class Connection:
    """To one address; opened when it is first used, and again where the server has closed it."""

    def __init__(self, host: str, port: int, headers: Mapping[str, str]) -> None:
        self._host, self._port, self._headers = host, port, dict(headers)
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self.status = 0
        self.answer_headers: dict[str, str] = {}

    async def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> None:
        """Send a request and read the head of its answer. Raises OSError or TimeoutError where there is none."""
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        content = b"" if body is None else json.dumps(body).encode()
        sent = {"host": self._host, "content-type": "application/json", "content-length": str(len(content))}
        lines = [
            f"{method} {path} HTTP/1.1",
            *(f"{key}: {value}" for key, value in (sent | self._headers).items()),
        ]
        self._writer.write("\r\n".join([*lines, "", ""]).encode() + content)
        await self._writer.drain()
        await self._head()

    async def _head(self) -> None:
        line = await self._line()
        if not line:
            raise ConnectionError("closed before it answered")
        self.status = int(line.split()[1])
        self.answer_headers = {}
        while (line := await self._line()).strip():
            name, _, value = line.decode().partition(":")
            self.answer_headers[name.lower()] = value.strip()

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body, as it comes. Raises ConnectionError where the connection ends before it does."""
        assert self._reader is not None
        if self.answer_headers.get("transfer-encoding") != "chunked":
            async with asyncio.timeout(ANSWER_S):
                yield await self._reader.readexactly(int(self.answer_headers["content-length"]))
            return
        while True:
            size = int(await self._line() or b"-1", 16)
            if size < 0:
                raise ConnectionError("closed inside of its answer")
            async with asyncio.timeout(ANSWER_S):
                data = await self._reader.readexactly(size + 2)
            if not size:
                return
            yield data[:-2]

    async def json(self) -> Any:
        """The body."""
        return json.loads(b"".join([chunk async for chunk in self.chunks()]))

    async def _line(self) -> bytes:
        assert self._reader is not None
        async with asyncio.timeout(ANSWER_S):
            return await self._reader.readline()

    @property
    def is_kept(self) -> bool:
        """Whether the server leaves it open for another request."""
        return self._writer is not None and self.answer_headers.get("connection", "").lower() != "close"

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None
