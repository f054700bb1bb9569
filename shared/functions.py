"""Calls of the versioned function library that holds the scripts of docs/protocol.md.

Redis functions survive FLUSHALL and travel with the data to replicas, unlike EVAL scripts; FUNCTION FLUSH or an
empty server still loses them, so every caller goes through `call` or `acall`, which load the library and try once
more. Trying again is safe there: "function not found" means that nothing ran.

Where Redis has users, only the gateways' may load it (deploy/acl): the others wait for one of them, which calls a
function twice a second and so soon finds the library missing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import NoPermissionError, ResponseError

from shared.errors import BusUnavailable
from shared.failures import bus_errors, classify
from shared.records import Argument

T = TypeVar("T")
Command = tuple[Argument, ...]


def _source(name: str) -> str:
    """A file of the library, with those that it names on lines `--@ file` in their places."""
    whole = Path(__file__).with_name(name).read_text(encoding="utf-8")
    return re.sub(r"^--@ (\S+)\n", lambda found: _source(found[1]), whole, flags=re.MULTILINE)


LIBRARY = _source("scripts.lua")


def library_version(source: str) -> int:
    """Version constant of a library's text. Raises ValueError where there is none."""
    match = re.search(r"^local VERSION = (\d+)$", source, re.MULTILINE)
    if match is None:
        raise ValueError("the function library has no VERSION line")
    return int(match.group(1))


VERSION = library_version(LIBRARY)
_ASK_VERSION = ("FCALL", "adaserve_version", 0)
_LOAD = ("FUNCTION", "LOAD", "REPLACE", LIBRARY)


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One function call: pure data, for sync and asyncio clients and inside pipelines without MULTI."""

    function: str
    keys: tuple[str, ...]
    arguments: tuple[Argument, ...]
    parser: Callable[[Any], T]

    def command(self) -> Command:
        """Arguments of ``client.execute_command(*call.command())``."""
        return ("FCALL", self.function, len(self.keys), *self.keys, *self.arguments)

    def parse(self, reply: Any) -> T:
        """Typed reply. A pipeline's reply may be an exception object: it is raised, classified."""
        if isinstance(reply, Exception):
            raise classify(reply) from reply
        return self.parser(reply)


def execute(client: Redis, command: Command) -> Any:
    """The raw RESP2 reply to any command."""
    return client.execute_command(*command)  # type: ignore[no-untyped-call]


async def aexecute(client: AsyncRedis, command: Command) -> Any:
    """`execute` for an asyncio client."""
    return await client.execute_command(*command)  # type: ignore[no-untyped-call]


def is_missing_function(reply: Any) -> bool:
    """Whether the server answered that it does not hold the library."""
    return isinstance(reply, ResponseError) and "Function not found" in str(reply)


@contextmanager
def _only_by_gateways() -> Iterator[None]:
    """Raises BusUnavailable where this user may not load the library: a gateway will."""
    try:
        yield
    except NoPermissionError as error:
        raise BusUnavailable("the function library is missing or old, and a gateway has to load it") from error


def load_library(client: Redis) -> None:
    """Loads the library where it is absent or older; a newer one, of a later release, is left in place.

    Raises BusUnavailable.
    """
    with bus_errors():
        try:
            present = int(execute(client, _ASK_VERSION))
        except ResponseError as error:
            if not is_missing_function(error):
                raise
            present = 0
        if present < VERSION:
            with _only_by_gateways():
                execute(client, _LOAD)


def has_library(client: Redis) -> bool:
    """Whether the library is there, of this release or a later one. Raises BusUnavailable."""
    with bus_errors():
        try:
            return int(execute(client, _ASK_VERSION)) >= VERSION
        except ResponseError as error:
            if not is_missing_function(error):
                raise
            return False


async def aload_library(client: AsyncRedis) -> None:
    """`load_library` for an asyncio client."""
    with bus_errors():
        try:
            present = int(await aexecute(client, _ASK_VERSION))
        except ResponseError as error:
            if not is_missing_function(error):
                raise
            present = 0
        if present < VERSION:
            with _only_by_gateways():
                await aexecute(client, _LOAD)


def call(client: Redis, request: Call[T]) -> T:
    """Runs one call. Raises BusUnavailable; the effect is then unknown, and every call may be repeated."""
    with bus_errors():
        try:
            reply = execute(client, request.command())
        except ResponseError as error:
            if not is_missing_function(error):
                raise
            load_library(client)
            reply = execute(client, request.command())
    return request.parse(reply)


async def acall(client: AsyncRedis, request: Call[T]) -> T:
    """`call` for an asyncio client."""
    with bus_errors():
        try:
            reply = await aexecute(client, request.command())
        except ResponseError as error:
            if not is_missing_function(error):
                raise
            await aload_library(client)
            reply = await aexecute(client, request.command())
    return request.parse(reply)
