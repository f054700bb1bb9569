"""`adaserve report`: whether speculation pays, as one HTML file."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from bench.proof import page, sources
from bench.proof.sides import Facts
from bench.proof.when import moment
from cli import admin
from shared.errors import ConfigurationError

DEFAULT_SINCE = "24h"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """The options of `adaserve report`: either a replay or a Prometheus server."""

    replay: Sequence[Path]
    baseline: Sequence[Path]
    prometheus: str | None
    since: str | None
    until: str | None
    baseline_since: str | None
    baseline_until: str | None
    prices: Path | None
    policy: Path | None
    url: str | None
    admin_key: str | None
    out: Path
    title: str
    as_json: bool


def run(choices: Choices, console: Console) -> None:
    """Writes the file and says so; ``console`` is for people. Raises an AdaServeError."""
    if bool(choices.replay) == (choices.prometheus is not None):
        raise ConfigurationError("give either --replay or --prometheus")
    if choices.baseline and not choices.replay:
        raise ConfigurationError("--baseline goes with --replay; with --prometheus it is --baseline-since")
    if choices.replay:
        _check_replay(choices)
    if not choices.out.parent.is_dir():
        raise ConfigurationError(f"--out {choices.out}: there is no such folder")
    facts = _of_replay(choices, console) if choices.replay else _of_period(choices, console)
    text = page.html(facts, choices.title)
    if choices.as_json:
        print(json.dumps(page.json(facts), ensure_ascii=False, allow_nan=False))  # noqa: T201 - the output
    try:
        choices.out.write_text(text)
    except OSError as error:
        raise ConfigurationError(f"--out {choices.out}: cannot be written: {error.strerror or error}") from None
    console.print(f"wrote {choices.out}", soft_wrap=True)


def _check_replay(choices: Choices) -> None:
    """Nothing of a period goes with files, and no file counts twice. Raises ConfigurationError."""
    for name in ("since", "until", "baseline_since", "baseline_until", "url"):
        if getattr(choices, name) is not None:
            raise ConfigurationError(f"--{name.replace('_', '-')} goes with --prometheus, not with --replay")
    seen: set[Path] = set()
    for path in (*choices.replay, *choices.baseline):
        if path.resolve() in seen:
            raise ConfigurationError(f"{path} is given twice: it would be compared with itself or counted twice")
        seen.add(path.resolve())


def _of_replay(choices: Choices, console: Console) -> Facts:
    with console.status("computing intervals"):
        return sources.from_files(choices.replay, choices.baseline, choices.prices, choices.policy)


def _of_period(choices: Choices, console: Console) -> Facts:
    assert choices.prometheus is not None
    if choices.baseline_until is not None and choices.baseline_since is None:
        raise ConfigurationError("--baseline-until goes with --baseline-since")
    now = time.time()
    since = choices.since or DEFAULT_SINCE
    ours = _span(since, choices.until, now, "")
    theirs = None
    if choices.baseline_since is not None:
        theirs = _span(choices.baseline_since, choices.baseline_until or since, now, "baseline-")
    usage = None if choices.url is None else lambda since, until: _usage(choices, since, until)
    # where it is no terminal, what is transient would leave an empty line
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("asking Prometheus", total=None)
        return sources.from_prometheus(
            choices.prometheus,
            ours,
            theirs,
            choices.prices,
            usage,
            lambda done, of: progress.update(task, completed=done, total=of),
        )


def _span(since: str, until: str | None, now: float, which: str) -> sources.Span:
    start = moment(since, now, f"--{which}since")
    end = now if until is None else moment(until, now, f"--{which}until")
    if start >= end:
        raise ConfigurationError(f"--{which}since {since}: not before the end of the period")
    return start, end


def _usage(choices: Choices, since: str, until: str) -> Mapping[str, Any]:
    assert choices.url is not None
    return admin.ask(choices.url, choices.admin_key, "GET", "/admin/usage", since=since, until=until)
