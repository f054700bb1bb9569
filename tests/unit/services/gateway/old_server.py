"""An existing server that a rollout forwards to: says what a test wants, and keeps what it was sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

Say = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Asked:
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class OldServer:
    say: Say
    asked: list[Asked] = field(default_factory=list)
    port: int = 0
    num_left: int = 0  # connections that the other side has closed while it was being answered

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {
                name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)
            }
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            self.asked.append(Asked(head[0].split()[1], headers, body))
            saying = asyncio.create_task(self._say(writer))
            leaving = asyncio.create_task(reader.read())  # b"" once the client has gone
            await asyncio.wait((saying, leaving), return_when=asyncio.FIRST_COMPLETED)
            self.num_left += leaving.done() and not saying.done()
            for task in (saying, leaving):
                task.cancel()
            await asyncio.gather(saying, leaving, return_exceptions=True)
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    async def _say(self, writer: asyncio.StreamWriter) -> None:
        await self.say(writer)
        await writer.drain()


@asynccontextmanager
async def old_server(say: Say) -> AsyncIterator[OldServer]:
    """On a free port of loopback."""
    made = OldServer(say)
    server = await asyncio.start_server(made._serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    async with server:
        yield made


def answers(status: int, body: bytes, *headers: str, kind: str = "application/json") -> Say:
    """One whole answer."""

    async def say(writer: asyncio.StreamWriter) -> None:
        head = [
            f"HTTP/1.1 {status} X",
            f"content-type: {kind}",
            f"content-length: {len(body)}",
            "connection: close",
        ]
        writer.write("\r\n".join([*head, *headers, "", ""]).encode() + body)

    return say


def streams(*pieces: bytes, gate: asyncio.Event | None = None, kind: str = "text/event-stream") -> Say:
    """Pieces as they are, the connection's end being the body's; after the first one the gate is waited for."""

    async def say(writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\n\r\n".encode())
        for index, piece in enumerate(pieces):
            if index == 1 and gate is not None:
                await gate.wait()
            writer.write(piece)
            await writer.drain()

    return say


async def hangs(writer: asyncio.StreamWriter) -> None:
    """Never a word."""
    await asyncio.Event().wait()
