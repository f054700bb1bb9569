"""Where the local stack's Redis comes from: the operator's, or one of our own for as long as the stack runs."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from shared.embedded_redis import MIN_VERSION, EmbeddedRedis
from shared.errors import AdaServeError, BusUnavailable, ConfigurationError

_TIMEOUT_S = 3.0
_WATCH_S = 0.5


class BusLost(AdaServeError):
    """The embedded server ended, and with it everything it knew."""


@dataclass(frozen=True, slots=True)
class Bus:
    """A Redis that answers; `words` describe it to the operator. `server` is set when it is ours."""

    url: str
    words: str
    server: EmbeddedRedis | None = None

    async def watch(self) -> None:
        """Raises BusLost when our own server has ended; the operator's may come back, so it is not watched."""
        while self.server is None or self.server.is_running:  # noqa: ASYNC110  a process sets no event
            await asyncio.sleep(_WATCH_S)
        raise BusLost("the embedded Redis has ended; start again")


@contextmanager
def running(url: str | None, secret_url: str | None = None) -> Iterator[Bus]:
    """`url` when given, else an embedded server that ends with this block.

    ``secret_url`` is the same with user, password and CA, which services put into it by themselves.
    Raises BusUnavailable when it does not answer, ConfigurationError when it is too old.
    """
    if url is not None:
        version = check(secret_url or url)
        yield Bus(url, f"Redis {version} at {without_password(url)}")
        return
    with EmbeddedRedis() as server:
        version = check(server.url)
        yield Bus(server.url, f"embedded Redis {version} (its data ends with this command)", server)


def check(url: str) -> str:
    """The server's version. Raises BusUnavailable or ConfigurationError, never showing a password."""
    try:
        with Redis.from_url(
            url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S, retry=Retry(NoBackoff(), 0)
        ) as client:
            version = str(client.info("server").get("redis_version", "0"))
    except (RedisError, OSError) as error:
        raise BusUnavailable(f"Redis at {without_password(url)} does not answer: {_one_line(error)}") from None
    except ValueError as error:
        raise ConfigurationError(f"REDIS_URL: {error}") from None
    if int(version.partition(".")[0]) < MIN_VERSION:
        raise ConfigurationError(
            f"Redis {version} at {without_password(url)} is too old; functions need {MIN_VERSION} or newer"
        )
    return version


def without_password(url: str) -> str:
    """`url` with user and password left out."""
    return re.sub("//[^/]*@", "//", url)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
