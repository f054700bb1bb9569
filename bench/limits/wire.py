"""Redis over a bare socket: what a client cannot be below."""

from __future__ import annotations

import socket
import time
from typing import Any
from urllib.parse import urlsplit

import hiredis

Word = str | bytes | int


class Wire:
    """One connection to a unix socket, without a client library."""

    def __init__(self, url: str) -> None:
        """``url``: unix:///path. Raises OSError."""
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(urlsplit(url).path)
        self._reader = hiredis.Reader()

    def send(self, *commands: tuple[Any, ...]) -> None:
        """All of them in one write."""
        self._socket.sendall(b"".join(hiredis.pack_command(command) for command in commands))

    def receive(self) -> Any:
        """The next reply. Raises ConnectionError when the server has gone."""
        while (reply := self._reader.gets()) is False:
            data = self._socket.recv(65536)
            if not data:
                raise ConnectionError("Redis closed the connection")
            self._reader.feed(data)
        return reply

    def ask(self, *command: Word) -> Any:
        """One command and its reply."""
        self.send(command)
        return self.receive()

    def ping_us(self, count: int) -> list[float]:
        """µs of each of so many PINGs."""
        times = []
        for _ in range(count):
            start = time.perf_counter()
            self.ask("PING")
            times.append((time.perf_counter() - start) * 1e6)
        return times

    def close(self) -> None:
        """End the connection."""
        self._socket.close()
