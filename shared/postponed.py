"""Calls that can wait until an answer is out."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Call = tuple[Callable[..., Any], tuple[Any, ...]]


class Postponed(threading.local):
    """Of each thread its own: at once, or inside `until_end` when that ends."""

    def __init__(self) -> None:
        self._calls: deque[Call] | None = None

    def call(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Now, or later; whatever it returns is lost."""
        if self._calls is None:
            function(*arguments)
        else:
            self._calls.append((function, arguments))

    def catch_up(self) -> None:
        """Makes the calls that wait."""
        while self._calls:
            function, arguments = self._calls.popleft()
            function(*arguments)

    @contextmanager
    def until_end(self) -> Iterator[None]:
        """Calls inside are made when this ends, in their order; after an exception too. May be nested.

        One that raises ends this: those behind it are lost.
        """
        if self._calls is not None:
            yield
            return
        self._calls = deque()
        try:
            yield
        finally:
            try:
                self.catch_up()
            finally:
                self._calls = None
