"""`adaserve poc`: go or no-go for the phases of an introduction (docs/poc.md), from what other commands print."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from rich.console import Console
from rich.table import Table

from bench import introduction
from bench.introduction import Phase, Replayed, RolloutNow, Simulated, Verdict
from cli import admin
from shared.errors import ConfigurationError
from shared.policy import Policy
from shared.policy_check import warnings
from shared.topics import AUDIT_MAXLEN
from shared.yaml_file import YamlFile

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """The options of `adaserve poc`: a phase is judged where its figures are given."""

    policy: Path | None
    simulated: Path | None
    with_: Path | None
    without: Path | None
    url: str | None
    admin_key: str | None
    max_payback_days: float
    as_json: bool


def run(choices: Choices, console: Console) -> Verdict:
    """Prints every phase that there are figures of. Raises an AdaServeError for what cannot be read."""
    phases = tuple(_phases(choices))
    if not phases:
        raise ConfigurationError("nothing to judge: give --policy, --simulated, --with and --without, or --url")
    verdict = introduction.whole(phases)
    if choices.as_json:
        told = {"phases": [phase.json() for phase in phases], "verdict": verdict.value}
        print(json.dumps(told, ensure_ascii=False, allow_nan=False))  # noqa: T201 - the command's output
        return verdict
    for phase in phases:
        console.print(_table(phase))
    console.print(verdict.value)
    return verdict


def _phases(choices: Choices) -> Iterator[Phase]:
    objectives: dict[str, float] = {}
    if choices.policy is not None:
        source = YamlFile.read(choices.policy)
        policy = source.model(Policy)
        objectives = {name: one.objective for name, one in policy.classes.items() if one.objective is not None}
        yield introduction.promises(objectives, warnings(source, policy, datetime.now(UTC)))
    if choices.simulated is not None:
        first, *_ = _objects(choices.simulated)  # the others are what it was compared with
        simulated = _taken(Simulated, first, choices.simulated)
        yield introduction.on_paper(simulated, max_payback_days=choices.max_payback_days)
    if (choices.with_ is None) != (choices.without is None):
        raise ConfigurationError("--with and --without go together")
    if choices.with_ is not None and choices.without is not None:
        if choices.policy is None:
            raise ConfigurationError("--with needs the objectives of a --policy")
        with_, without = (_taken(Replayed, _objects(path)[0], path) for path in (choices.with_, choices.without))
        yield introduction.in_the_laboratory(objectives, with_, without)
    if choices.url is not None:
        now = admin.ask(choices.url, choices.admin_key, "GET", "/admin/rollout")
        events = admin.ask(choices.url, choices.admin_key, "GET", "/admin/audit", limit=AUDIT_MAXLEN)["events"]
        yield introduction.on_the_ramp(_taken(RolloutNow, now, choices.url), events)


def _objects(path: Path) -> list[Any]:
    """One JSON value after the other, at least one. Raises ConfigurationError."""
    try:
        text = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read: {error}") from None
    found: list[Any] = []
    decoder = json.JSONDecoder()
    while text or not found:
        try:
            value, end = decoder.raw_decode(text)
        except ValueError as error:
            raise ConfigurationError(f"{path}: not what `--json` prints: {error}") from None
        found.append(value)
        text = text[end:].lstrip()
    return found


def _taken(model: type[Model], value: Any, source: Path | str) -> Model:
    """Raises ConfigurationError, which names the field."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "it"
        raise ConfigurationError(f"{source}: {field}: {first['msg']}") from None


def _table(phase: Phase) -> Table:
    title = f"{phase.number} {phase.name}: {phase.verdict}"
    table = Table("criterion", "figure", "go", "met", title=title, title_justify="left", title_style="bold")
    for one in phase.criteria:
        met = {True: "yes", False: "no", None: "no figure"}[one.is_met]
        table.add_row(one.what, one.figure, one.go, met)
    return table
