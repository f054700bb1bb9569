"""What the launcher says: its own lines and those of its services, none of them inside streamed text."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text

COLORS = {"up": "bold", "gateway": "cyan", "selector": "magenta", "drafter": "yellow", "verifier": "green"}
MAX_HELD_S = 10.0  # text that streams longer is in trouble, and then its reason matters more


class Voice:
    """Lines to a console, held back while text streams to it."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._held: list[tuple[str, str]] = []
        self._until: float | None = None

    def say(self, name: str, line: str) -> None:
        """A line of the service, or of the launcher itself, which is `up`."""
        if self._until is None:
            self._print(name, line)
            return
        self._held.append((name, line))
        if time.monotonic() > self._until:
            self._release()

    @contextmanager
    def streaming(self) -> Iterator[Console]:
        """Only text until the end of the block; then a line break, and the lines that have come meanwhile."""
        self._until = time.monotonic() + MAX_HELD_S
        try:
            yield self.console
        finally:
            self._release()

    def _release(self) -> None:
        if self._until is not None:
            self.console.print()
        self._until = None
        for name, line in self._held:
            self._print(name, line)
        self._held.clear()

    def _print(self, name: str, line: str) -> None:
        self.console.print(Text.assemble((f"{name:<8} | ", COLORS.get(name, "")), line), soft_wrap=True)
