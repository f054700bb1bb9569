"""A proxy between the services and Redis that understands commands and replies, and spoils them.

Commands of a connection go on one at a time, each with its reply, so that a fault hits a known command at a known
moment: before it reached the server, or after its effect.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from tests.faults.resp import frame_end, words

_CHUNK = 1 << 16
_ADDED = b"$3\r\n0-1\r\n"


class Fault(StrEnum):
    """What the proxy does to one command."""

    NONE = "none"
    DELAY = "delay"  # passes it on late
    RESET = "reset"  # resets the connection, the command never arrives
    HALF_OPEN = "half_open"  # says nothing any more, the connection stays
    CUT_COMMAND = "cut_command"  # the first bytes arrive, then the connection ends
    DROP_REPLY = "drop_reply"  # the effect happens, the connection is reset instead of the reply
    CUT_REPLY = "cut_reply"  # the first bytes of the reply come back, then the connection ends
    DUPLICATE = "duplicate"  # the command arrives twice, one reply comes back
    HOLD = "hold"  # answered at once, and sent behind later commands: for hints


@dataclass(frozen=True, slots=True)
class Trouble:
    """A fault with its size: seconds of a delay or hold, bytes before a cut."""

    fault: Fault = Fault.NONE
    seconds: float = 0.0
    num_bytes: int = 0


Decide = Callable[[list[bytes]], Trouble]


class Proxy:
    """Listens on a loopback port for a server behind a unix socket; ``decide`` is asked for each command."""

    def __init__(self, upstream: str, decide: Decide) -> None:
        self._upstream, self._decide = upstream, decide
        self._server: asyncio.Server | None = None
        self._held: set[asyncio.Task[None]] = set()
        self._open: set[asyncio.StreamWriter] = set()
        self.counts: Counter[Fault] = Counter()

    async def start(self) -> int:
        """Returns the port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._open):
            _reset(writer)
        for task in self._held:
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            from_server, to_server = await asyncio.open_unix_connection(self._upstream)
            link = _Link(reader, writer, from_server, to_server)
            with contextlib.closing(to_server):
                while await self._pass_on(link):
                    pass
        except (OSError, asyncio.CancelledError):
            _reset(writer)
        finally:
            self._open.discard(writer)
            writer.close()

    async def _pass_on(self, link: _Link) -> bool:
        """One command and its reply; False when the connection has ended."""
        command = await link.commands.next()
        if command is None:
            return False
        trouble = self._decide(words(command))
        self.counts[trouble.fault] += 1
        match trouble.fault:
            case Fault.RESET:
                _reset(link.to_client)
                return False
            case Fault.HALF_OPEN:
                await link.commands.drain()
                return False
            case Fault.CUT_COMMAND:
                link.to_server.write(command[: trouble.num_bytes])
                _reset(link.to_client)
                return False
            case Fault.HOLD:
                self._hold(command, trouble.seconds)
                link.to_client.write(_ADDED)
                return True
            case Fault.DELAY:
                await asyncio.sleep(trouble.seconds)
            case Fault.DUPLICATE:
                await link.ask(command)
        return await self._answer(link, await link.ask(command), trouble)

    async def _answer(self, link: _Link, reply: bytes, trouble: Trouble) -> bool:
        if trouble.fault is Fault.DROP_REPLY:
            _reset(link.to_client)
            return False
        if trouble.fault is Fault.CUT_REPLY:
            link.to_client.write(reply[: min(trouble.num_bytes, len(reply) - 1)])
            await link.to_client.drain()
            return False
        link.to_client.write(reply)
        await link.to_client.drain()
        return True

    def _hold(self, command: bytes, seconds: float) -> None:
        task = asyncio.create_task(self._send_later(command, seconds))
        self._held.add(task)
        task.add_done_callback(self._held.discard)

    async def _send_later(self, command: bytes, seconds: float) -> None:
        await asyncio.sleep(seconds)
        with contextlib.suppress(OSError):
            from_server, to_server = await asyncio.open_unix_connection(self._upstream)
            with contextlib.closing(to_server):
                to_server.write(command)
                await _Frames(from_server).next()


class _Frames:
    """Whole frames from a stream, as they came."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader, self._buffer = reader, bytearray()

    async def next(self) -> bytes | None:
        """The next frame; None at the end of the stream."""
        while (end := frame_end(self._buffer)) is None:
            data = await self._reader.read(_CHUNK)
            if not data:
                return None
            self._buffer += data
        frame = bytes(self._buffer[:end])
        del self._buffer[:end]
        return frame

    async def drain(self) -> None:
        """Reads to the end of the stream and forgets it."""
        while await self._reader.read(_CHUNK):
            pass


class _Link:
    """A client's connection and the one to the server behind it."""

    def __init__(
        self,
        from_client: asyncio.StreamReader,
        to_client: asyncio.StreamWriter,
        from_server: asyncio.StreamReader,
        to_server: asyncio.StreamWriter,
    ) -> None:
        self.commands, self._replies = _Frames(from_client), _Frames(from_server)
        self.to_client, self.to_server = to_client, to_server

    async def ask(self, command: bytes) -> bytes:
        """The server's reply. Raises ConnectionError when it has gone."""
        self.to_server.write(command)
        reply = await self._replies.next()
        if reply is None:
            raise ConnectionError("the server has closed the connection")
        return reply


def _reset(writer: asyncio.StreamWriter) -> None:
    """Ends with RST instead of FIN, as a crashed peer or a firewall does."""
    if not writer.is_closing():
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()


class Weather:
    """Seeded faults: ``odds`` of one per command. Quiet until `storm` and after `calm`."""

    def __init__(self, seed: int, odds: float, faults: tuple[Fault, ...] = tuple(Fault)[1:]) -> None:
        self._random, self._odds, self._faults = random.Random(seed), odds, faults
        self._is_stormy = False

    def storm(self) -> None:
        self._is_stormy = True

    def calm(self) -> None:
        self._is_stormy = False

    def decide(self, command: list[bytes]) -> Trouble:
        """Hints may be held or doubled; doubling anything else is what a retrying client library would do."""
        if not self._is_stormy or self._random.random() >= self._odds:
            return Trouble()
        is_hint = command[0] == b"XADD" and b"NOMKSTREAM" in command
        is_script = command[0] == b"FCALL"
        fault = self._random.choice(self._faults)
        if (fault is Fault.HOLD and not is_hint) or (fault is Fault.DUPLICATE and not (is_hint or is_script)):
            fault = Fault.DELAY
        return Trouble(fault, self._random.choice((0.005, 0.05, 0.4)), self._random.randrange(1, 60))


@contextmanager
def running(upstream: str, decide: Decide) -> Iterator[tuple[Proxy, str]]:
    """A proxy in a thread of its own, and its url."""
    loop, proxy = asyncio.new_event_loop(), Proxy(upstream, decide)
    thread = threading.Thread(target=loop.run_forever, name="proxy", daemon=True)
    thread.start()
    try:
        port = asyncio.run_coroutine_threadsafe(proxy.start(), loop).result(10)
        yield proxy, f"redis://127.0.0.1:{port}"
    finally:
        asyncio.run_coroutine_threadsafe(_shut(proxy), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _shut(proxy: Proxy) -> None:
    await proxy.stop()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
