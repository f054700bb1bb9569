"""`adaserve top`: a cell as it is now, in a terminal."""

from __future__ import annotations

import json
import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from cli import admin
from cli.top_view import view

REFUSALS = (401, 403, 404)  # waiting does not help against these
SPARE_LINES = 22  # of a terminal, for everything but requests
WAKING_S, AGAIN_S = 2.5, 0.6  # a verifier looks once a second whether somebody watches


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """The options of `adaserve top`."""

    url: str
    admin_key: str | None
    every_s: float
    once: bool
    as_json: bool


def run(choices: Choices, console: Console) -> None:
    """Until q or Ctrl-C; once where nobody watches a terminal. Raises AdminFailed for a refusal."""
    try:
        if choices.as_json:
            _lines(choices)
        elif choices.once or not console.is_terminal:
            console.print(view(_woken(choices), requests=10, width=console.width))
        else:
            _watch(choices, console)
    except KeyboardInterrupt:
        return


def _asked(choices: Choices) -> dict[str, Any]:
    return admin.ask(choices.url, choices.admin_key, "GET", "/admin/live")


def _woken(choices: Choices) -> dict[str, Any]:
    """Verifiers tell nothing until somebody looks, so the first look may find no figures."""
    snapshot = _asked(choices)
    deadline = time.monotonic() + WAKING_S
    while not _is_told(snapshot) and time.monotonic() < deadline:
        time.sleep(AGAIN_S)
        snapshot = _asked(choices)
    return snapshot


def _is_told(snapshot: dict[str, Any]) -> bool:
    return all(one.get("running", 0) is not None for one in snapshot.get("verifiers") or ())


def _lines(choices: Choices) -> None:
    """An object a line."""
    snapshot = _woken(choices)
    while True:
        print(json.dumps(snapshot), flush=True)  # noqa: T201 - the command's output
        if choices.once:
            return
        time.sleep(choices.every_s)
        snapshot = _asked(choices)


def _watch(choices: Choices, console: Console) -> None:
    """A gateway that goes away is asked again until it is back."""
    snapshot: dict[str, Any] = {}
    with _keys() as pressed, Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            trouble = ""
            try:
                snapshot = _asked(choices)
            except admin.AdminFailed as error:
                if error.status in REFUSALS:
                    raise
                trouble = f"{error}; asking again"
            room = max(3, console.size.height - SPARE_LINES)
            shown = (
                view(snapshot, requests=room, width=console.width, trouble=trouble) if snapshot else Text(trouble)
            )
            live.update(shown, refresh=True)
            if pressed(choices.every_s) in ("q", "Q"):
                return


@contextmanager
def _keys() -> Iterator[Any]:
    """A function that waits so many seconds for a key and returns it, "" for none."""
    if not sys.stdin.isatty():
        yield _wait
        return
    try:
        import termios
        import tty
    except ImportError:  # Windows: Ctrl-C still leaves
        yield _wait
        return
    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield _key
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _key(seconds: float) -> str:
    ready, _, _ = select.select([sys.stdin], [], [], seconds)
    return sys.stdin.read(1) if ready else ""


def _wait(seconds: float) -> str:
    time.sleep(seconds)
    return ""
