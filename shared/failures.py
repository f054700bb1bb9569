"""Sorts what redis-py raises into "the bus is away, try later" and "this is a bug"."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Final

from redis import exceptions

from shared.errors import BusUnavailable

# Replies that a failover, a restart, a full disk, full memory or an operator's change cause and may end.
_PASSING: Final = (
    "READONLY",
    "LOADING",
    "MASTERDOWN",
    "OOM",
    "MISCONF",
    "NOPERM",
    "UNBLOCKED",
    "NOREPLICAS",
    "BUSY Redis",
    "NOGROUP",
    "Function not found",  # again after the library was loaded: flushed twice, the next try loads it once more
)
_PASSING_TYPES: Final = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.ReadOnlyError,
    exceptions.OutOfMemoryError,
    exceptions.NoPermissionError,
    exceptions.ClusterDownError,
)
# Most special first: a loading server is a ConnectionError to redis-py.
_LABELS: Final = (
    (exceptions.BusyLoadingError, "LOADING"),
    (exceptions.ReadOnlyError, "READONLY"),
    (exceptions.OutOfMemoryError, "OOM"),
    (exceptions.NoPermissionError, "NOPERM"),
    (exceptions.MasterDownError, "MASTERDOWN"),
    (exceptions.TimeoutError, "TimeoutError"),
    (exceptions.ConnectionError, "ConnectionError"),
)


def classify(error: Exception) -> Exception:
    """The exception to raise for `error`: BusUnavailable when Redis may answer later, else `error` itself.

    redis-py strips the code off the replies it has a class for and keeps it in the text of the others, and
    an error from inside a function is prefixed by Redis; so both the class and the text are looked at.
    """
    text = str(error)
    if isinstance(error, _PASSING_TYPES) or any(text.startswith(code) for code in _PASSING):
        return BusUnavailable(f"{type(error).__name__}: {text}")
    return error


def kind_of(error: BaseException) -> str:
    """Short class of a bus failure for a metric's label: the reply's code, or the type of exception."""
    cause = error.__cause__ or error
    for kind, label in _LABELS:
        if isinstance(cause, kind):
            return label
    return next((code for code in _PASSING if str(cause).startswith(code)), type(cause).__name__)


def is_reply(error: Exception, code: str) -> bool:
    """Whether `error` is the server's error reply that starts with `code`, e.g. ``BUSYGROUP``."""
    return isinstance(error, exceptions.ResponseError) and str(error).startswith(code)


def is_group_gone(error: Exception) -> bool:
    """Whether a group read failed because the stream or its group does not exist (any more).

    A blocked reader hears UNBLOCKED from Redis where Valkey says NOGROUP.
    """
    return is_reply(error, "NOGROUP") or is_reply(error, "UNBLOCKED")


class _BusErrors:
    """A class and no generator: every command stands in one of these."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, exceptions.RedisError) and (verdict := classify(error)) is not error:
            raise verdict from error


_BUS_ERRORS: Final = _BusErrors()


def bus_errors() -> AbstractContextManager[None]:
    """Raises BusUnavailable in place of any redis-py error that may pass by itself."""
    return _BUS_ERRORS
