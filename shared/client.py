"""redis-py's client without most of what it does around a command.

redis-py takes a connection out of its pool for each command, looks whether it lives, counts, measures, wraps the
command in retries, and puts the connection back: twice the time of the command itself in a loop, and thrice in a
process whose caches a forward pass has emptied. Each iteration of the ring waits for six commands.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from typing import Any

import hiredis
from redis import Redis
from redis.exceptions import RedisError, ResponseError

LOOK_S = 0.25
"""A connection that was idle for so long is looked at first: the server may have gone, and be back."""

_NO_OPTIONS: dict[str, Any] = {}


class Client(Redis):
    """Keeps one connection. A thread that comes while another one uses it is served by the pool, as ever.

    Nothing is retried. Raises what redis-py raises.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._kept: Any = None
        self._used = -math.inf
        self._in_use = threading.Lock()

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """One command; its reply as redis-py returns it."""
        if not self._in_use.acquire(blocking=False):
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        try:
            connection = self._connection()
            (reply,) = self._ask(connection, connection.pack_command(*args), [(args[0], options)])
        finally:
            self._in_use.release()
        if isinstance(reply, ResponseError):
            raise reply
        return reply

    def exchange(self, commands: Sequence[tuple[Any, ...]]) -> list[Any] | None:
        """Commands in one write without MULTI; the replies, errors among them. None: another thread is at it."""
        if not commands:
            return []
        if not self._in_use.acquire(blocking=False):
            return None
        try:
            # Not packed by redis-py, which would cut them into writes of 6000 bytes.
            packed = b"".join([hiredis.pack_command(command) for command in commands])
            return self._ask(self._connection(), [packed], [(command[0], _NO_OPTIONS) for command in commands])
        finally:
            self._in_use.release()

    def _connection(self) -> Any:
        if self._kept is None:
            self._kept = self.connection_pool.get_connection()
        elif time.monotonic() - self._used > LOOK_S:
            _look(self._kept)
        return self._kept

    def _ask(
        self, connection: Any, packed: Sequence[bytes], asked: Sequence[tuple[str, dict[str, Any]]]
    ) -> list[Any]:
        """The replies to commands of these names, with redis-py's options for what is made of them."""
        try:
            connection.send_packed_command(packed)
            return [self._reply(connection, name, options) for name, options in asked]
        except BaseException:
            connection.disconnect()  # a reply that comes later would be taken for the next command's
            raise
        finally:
            self._used = time.monotonic()

    def _reply(self, connection: Any, name: str, options: dict[str, Any]) -> Any:
        try:
            return self.parse_response(connection, name, **options)  # type: ignore[no-untyped-call]
        except ResponseError as error:
            return error

    def close(self) -> None:
        """Ends all connections; the client may be used again."""
        kept = vars(self).get("_kept")  # not there where __init__ has failed
        if kept is not None:
            self._kept = None
            self.connection_pool.release(kept)
        super().close()


def _look(connection: Any) -> None:
    """Ends a connection that the server has closed, or with bytes that nobody waits for; its next use opens it."""
    try:
        is_sound = not connection.can_read()
    except (RedisError, OSError):
        is_sound = False
    if not is_sound:
        connection.disconnect()
