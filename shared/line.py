"""The socket of a connection that redis-py has opened, written and read without redis-py's layers."""

from __future__ import annotations

import socket
from typing import Any

import hiredis
from redis.exceptions import ConnectionError as LostConnection
from redis.exceptions import InvalidResponse, ResponseError
from redis.exceptions import TimeoutError as TooLate

_BUFFER_BYTES = 1 << 16
_UNFINISHED = object()


class Line:
    """Bytes out, replies in, in order, as RESP2 has them. Whoever has it lets nobody else use the connection.

    Raises what redis-py raises; after LostConnection or TooLate the connection is of no use.
    """

    def __init__(self, connection: Any) -> None:
        """``connection``: of redis-py, connected, with no reply outstanding."""
        self._socket: socket.socket = connection._sock
        self._buffer = bytearray(_BUFFER_BYTES)
        self._reader = hiredis.Reader(
            protocolError=InvalidResponse,
            replyError=connection._parser.parse_error,
            notEnoughData=_UNFINISHED,
        )

    def send(self, packed: bytes) -> None:
        """All of it."""
        try:
            self._socket.sendall(packed)
        except TimeoutError as error:
            raise TooLate("Timeout writing to socket") from error
        except OSError as error:
            raise LostConnection(f"Error while writing to socket: {error.args}") from error

    def receive(self) -> Any:
        """The next reply; an error reply is a ResponseError object. One that ends the connection is raised."""
        reply = self._reader.gets()
        while reply is _UNFINISHED:
            try:
                count = self._socket.recv_into(self._buffer)
            except TimeoutError as error:
                raise TooLate("Timeout reading from socket") from error
            except OSError as error:
                raise LostConnection(f"Error while reading from socket: {error.args}") from error
            if not count:
                raise LostConnection("Connection closed by server.")
            self._reader.feed(self._buffer, 0, count)  # type: ignore[arg-type]
            reply = self._reader.gets()
        if isinstance(reply, LostConnection):  # LOADING, for one
            raise reply
        return reply

    def read_response(self, **_: Any) -> Any:
        """`receive` by the name that redis-py's `parse_response` knows; nothing is decoded in any case."""
        reply = self.receive()
        if isinstance(reply, ResponseError):
            raise reply
        return reply
