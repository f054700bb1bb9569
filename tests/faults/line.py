"""The one connection of all simulated members: hiredis on a socket, without pools, retries and telemetry.

These cost ten times as much as the rest of a command, and a run is made of hundreds of commands.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hiredis
from redis import Redis
from redis._parsers.base import BaseParser
from redis.exceptions import ConnectionError as LostConnection
from redis.exceptions import InvalidResponse

Words = tuple[Any, ...]
Options = dict[str, Any]

_MANY = 65536


class Line:
    """Commands in, replies out; redis-py's own callbacks make of them what its clients return."""

    def __init__(self, path: Path) -> None:
        self.client = Direct(self)
        self._callbacks = self.client.response_callbacks
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._reader = hiredis.Reader(protocolError=InvalidResponse, replyError=BaseParser.parse_error)

    def close(self) -> None:
        self._socket.close()

    def run(self, command: Words, options: Options) -> Any:
        """The reply. Raises ResponseError."""
        (reply,) = self.run_all([(command, options)])
        if isinstance(reply, Exception):
            raise reply
        return reply

    def run_all(self, commands: Sequence[tuple[Words, Options]]) -> list[Any]:
        """The replies to commands sent in one write, errors among them."""
        self._socket.sendall(b"".join(_packed(command) for command, _ in commands))
        # All of them before any callback, which may fail, so that none stays on the wire.
        replies = [self._read() for _ in commands]
        return [self._made(*command, reply) for command, reply in zip(commands, replies, strict=True)]

    def transact(self, commands: Sequence[tuple[Words, Options]]) -> list[Any]:
        """The same between MULTI and EXEC. Raises ResponseError where nothing has run."""
        *_, done = self.run_all([(("MULTI",), {}), *commands, (("EXEC",), {})])
        if isinstance(done, Exception):
            raise done
        return [self._made(*command, reply) for command, reply in zip(commands, done, strict=True)]

    def _read(self) -> Any:
        reply = self._reader.gets()
        while reply is False:
            received = self._socket.recv(_MANY)
            if not received:
                raise LostConnection("the server has gone")
            self._reader.feed(received)
            reply = self._reader.gets()
        return reply

    def _made(self, command: Words, options: Options, reply: Any) -> Any:
        callback = self._callbacks.get(command[0])
        if callback is None or isinstance(reply, Exception):
            return reply
        return callback(reply, **{name: value for name, value in options.items() if name != "keys"})


class Direct(Redis):
    """A client on the line, for the world itself: nothing goes wrong here."""

    def __init__(self, line: Line) -> None:
        super().__init__(protocol=2)
        self._line = line

    def execute_command(self, *args: Any, **options: Any) -> Any:
        return self._line.run(args, options)


def _packed(command: Words) -> bytes:
    """A name of two words, such as FUNCTION FLUSH, goes as two."""
    name, *rest = command
    return hiredis.pack_command((*name.split(), *rest))
