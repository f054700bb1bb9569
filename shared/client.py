"""redis-py's client without most of what it does around a command.

redis-py takes a connection out of its pool for each command, looks whether it lives, counts, measures, wraps the
command in retries, and puts the connection back: twice the time of the command itself in a loop, and thrice in a
process whose caches a forward pass has emptied. Each iteration of the ring waits for six commands.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import hiredis
from redis import Redis
from redis.exceptions import RedisError, ResponseError

from shared.line import Line

LOOK_S = 0.25
"""A connection that was idle for so long is looked at first: the server may have gone, and be back."""

T = TypeVar("T")


class Client(Redis):
    """Keeps one connection. A thread that comes while another one uses it is served by the pool, as ever.

    Nothing is retried. Raises what redis-py raises.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._kept: Any = None
        self._line: Line | None = None  # of the kept connection, while that is open
        self._used = -math.inf
        self._in_use = threading.Lock()

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """One command; its reply as redis-py returns it."""
        if not self._in_use.acquire(blocking=False):
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        try:
            line = self._opened()
            packed = b"".join(self._kept.pack_command(*args))
            reply = self._ask(line, packed, lambda: self._reply(line, args[0], options))
        finally:
            self._in_use.release()
        if isinstance(reply, ResponseError):
            raise reply
        return reply

    def exchange(
        self, commands: Sequence[tuple[Any, ...]], meanwhile: Callable[[], None] = lambda: None
    ) -> list[Any] | None:
        """Commands in one write without MULTI; the replies, errors among them. None: another thread is at it.

        ``meanwhile`` is called when they have left, before their replies are waited for.
        """
        if not commands:
            return []
        if not self._in_use.acquire(blocking=False):
            return None
        try:
            # Not packed by redis-py, which would cut them into writes of 6000 bytes.
            packed = b"".join([hiredis.pack_command(command) for command in commands])
            line = self._opened()
            return self._ask(
                line, packed, lambda: [self._reply(line, command[0], {}) for command in commands], meanwhile
            )
        finally:
            self._in_use.release()

    def raw(self, command: tuple[Any, ...]) -> Any:
        """One command; its reply as the server wrote it, for whoever takes it apart himself."""
        if not self._in_use.acquire(blocking=False):
            return self._raw_of_pool(command)
        try:
            line = self._opened()
            reply = self._ask(line, hiredis.pack_command(command), line.receive)
        finally:
            self._in_use.release()
        if isinstance(reply, ResponseError):
            raise reply
        return reply

    def _raw_of_pool(self, command: tuple[Any, ...]) -> Any:
        connection = self.connection_pool.get_connection()
        try:
            connection.send_command(*command)  # type: ignore[no-untyped-call]
            return connection.read_response()
        finally:
            self.connection_pool.release(connection)

    def _opened(self) -> Line:
        if self._line is not None and time.monotonic() - self._used > LOOK_S and not _is_sound(self._kept):
            self._hang_up()
        if self._line is None:
            if self._kept is None:
                self._kept = self.connection_pool.get_connection()
            self._kept.connect()  # unless it is
            self._line = Line(self._kept)
        return self._line

    def _ask(
        self, line: Line, packed: bytes, receive: Callable[[], T], meanwhile: Callable[[], None] = lambda: None
    ) -> T:
        """Writes, then what ``receive`` makes of the replies."""
        try:
            line.send(packed)
            meanwhile()
            return receive()
        except BaseException:
            self._hang_up()  # a reply that comes later would be taken for the next command's
            raise
        finally:
            self._used = time.monotonic()

    def _reply(self, line: Line, name: str, options: dict[str, Any]) -> Any:
        try:
            return self.parse_response(line, name, **options)  # type: ignore[no-untyped-call]
        except ResponseError as error:
            return error

    def _hang_up(self) -> None:
        self._line = None
        self._kept.disconnect()

    def close(self) -> None:
        """Ends all connections; the client may be used again."""
        kept = vars(self).get("_kept")  # not there where __init__ has failed
        if kept is not None:
            self._kept = self._line = None
            self.connection_pool.release(kept)
        super().close()


def _is_sound(connection: Any) -> bool:
    """Whether the server has neither closed a connection nor sent bytes that nobody waits for."""
    try:
        return not connection.can_read()
    except (RedisError, OSError):
        return False
