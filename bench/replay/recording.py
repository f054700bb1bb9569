"""Whole replays in a file, request by request, with the services' figures meanwhile: `adaserve replay --save`.

Texts are not in it, so that it may leave the machine.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.report import Outcome
from bench.simulator.tenancy import Served
from shared.errors import ConfigurationError

FORMAT = "adaserve-replay"
VERSION = 1
MAX_BYTES = 256 << 20

Time = Annotated[float, Field(ge=-1e10, le=1e13, allow_inf_nan=False)]
Target = Annotated[float, Field(gt=0, le=1e9)] | None
Count = Annotated[int, Field(ge=0, le=1 << 40)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RecordedRequest(_Part):
    """One request; times in ms since the replay began, by the server's commits; targets null for none.

    ``steps`` verified drafted tokens: ``drafted`` of them, of which ``accepted`` were.
    """

    tenant: str = Field(min_length=1, max_length=64)
    category: str = Field(min_length=1, max_length=64)
    arrival_ms: Time
    prompt_tokens: Count
    tokens: Count
    first_ms: Time | None
    last_ms: Time | None
    tpot_target_ms: Target = None
    ttft_target_ms: Target = None
    e2e_target_ms: Target = None
    steps: Count = 0
    drafted: Count = 0
    accepted: Count = 0
    failure: str | None = None

    @classmethod
    def of(cls, outcome: Outcome, *, tenant: str, prompt_tokens: int, drafted: int) -> RecordedRequest:
        return cls(
            tenant=tenant,
            category=outcome.category,
            arrival_ms=outcome.arrival_ms,
            prompt_tokens=prompt_tokens,
            tokens=outcome.tokens,
            first_ms=outcome.first_ms,
            last_ms=outcome.last_ms,
            tpot_target_ms=_finite(outcome.target_ms),
            ttft_target_ms=_finite(outcome.ttft_target_ms),
            e2e_target_ms=_finite(outcome.e2e_target_ms),
            steps=outcome.num_steps,
            drafted=drafted,
            accepted=outcome.num_accepted,
            failure=outcome.failure,
        )

    @property
    def outcome(self) -> Outcome:
        return Outcome(
            category=self.category,
            arrival_ms=self.arrival_ms,
            first_ms=self.first_ms,
            last_ms=self.last_ms,
            tokens=self.tokens,
            target_ms=self.tpot_target_ms or math.inf,
            ttft_target_ms=self.ttft_target_ms or math.inf,
            e2e_target_ms=self.e2e_target_ms or math.inf,
            num_steps=self.steps,
            num_accepted=self.accepted,
            failure=self.failure,
        )

    @property
    def served(self) -> Served:
        return Served(tenant=self.tenant, prompt_tokens=self.prompt_tokens, outcome=self.outcome)


def _finite(target_ms: float) -> float | None:
    return target_ms if math.isfinite(target_ms) else None


class ServerSample(_Part):
    """What all services together have counted since the start (bench/replay/series.py), ``at_s`` after it."""

    at_s: Time
    values: dict[str, float]


class Event(_Part):
    """Something that was done to the system on purpose."""

    at_s: Time
    what: str = Field(max_length=200)


class RecordedRun(_Part):
    """One replay of the trace; ``started_at`` in seconds since 1970."""

    seed: int
    started_at: Time
    requests: list[RecordedRequest] = Field(min_length=1)
    samples: list[ServerSample] = Field(default_factory=list)
    events: list[Event] = Field(default_factory=list)


class Recording(_Part):
    """A trace replayed on one system, once for each seed."""

    format: Literal["adaserve-replay"] = "adaserve-replay"
    version: Literal[1] = 1
    trace: str
    model: str
    system: str
    temperature: float = 1.0
    zero_load_ms: float | None = None
    context_tokens: Count = 0
    runs: list[RecordedRun] = Field(min_length=1)

    @property
    def served(self) -> list[Sequence[Served]]:
        """Of each run."""
        return [[one.served for one in run.requests] for run in self.runs]


def save(recording: Recording, path: Path) -> None:
    """Raises ConfigurationError where it cannot be written."""
    try:
        path.write_text(recording.model_dump_json() + "\n")
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be written: {error.strerror or error}") from None


def load(path: Path) -> Recording:
    """Raises ConfigurationError naming the file, the field and what is wrong with it."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigurationError(f"{path}: larger than {MAX_BYTES >> 20} MiB")
        found = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read: {error}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path}: not what `adaserve replay --save` writes: {error}") from None
    _check_version(path, found)
    try:
        return Recording.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "it"
        raise ConfigurationError(f"{path}: {place}: {first['msg']}") from None


def _check_version(path: Path, found: object) -> None:
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ConfigurationError(f"{path}: not what `adaserve replay --save` writes: no format {FORMAT!r}")
    if found.get("version") != VERSION:
        raise ConfigurationError(f"{path}: version {found.get('version')!r}; this AdaServe reads {VERSION}")
