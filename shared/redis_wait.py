"""Patience with a Redis that starts later than its clients, or anew beside them, as in one `helm upgrade`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from redis import Redis, exceptions

logger = logging.getLogger(__name__)

_TIMEOUT_S = 5.0
_PAUSE_S = 0.5
_TOLD_EVERY_S = 5.0


def wait_for_redis(
    url: str,
    patience_s: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Returns once Redis answers anything, be it a refusal, or ``patience_s`` seconds have passed.

    What it may refuse, and that it is not there after all, is for those to tell who then use it.
    """
    start = clock()
    told = start - _TOLD_EVERY_S
    while patience_s > 0 and (error := _trouble(url)) is not None:
        now = clock()
        if now - start >= patience_s:
            return
        if now - told >= _TOLD_EVERY_S:
            left_s = patience_s - (now - start)
            logger.warning("Redis does not answer yet; waiting for %.0f s at most: %s", left_s, error)
            told = now
        pause(_PAUSE_S)


def _trouble(url: str) -> exceptions.RedisError | None:
    """Why nothing answers; None where something does."""
    client = Redis.from_url(url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S)
    try:
        client.ping()
    except (exceptions.AuthenticationError, exceptions.AuthorizationError):
        return None
    # A server that loads its file is a ConnectionError, too.
    except (exceptions.ConnectionError, exceptions.TimeoutError) as error:
        return error
    except exceptions.RedisError:
        return None
    finally:
        client.close()
    return None
