"""A promise to requests: targets, tier and objective. Pure."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from shared.yaml_file import Section, problem

MAX_RATIO = 1000.0
MAX_MS = 3_600_000.0
DEFAULT_TIER = 2
MAX_TIER = 3

_RATIO = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)x", re.ASCII)


def _ratio(value: Any) -> float:
    match = _RATIO.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise problem("must be a multiple of the zero-load latency, such as 1.2x")
    return float(match[1])


Ratio = Annotated[
    float,
    BeforeValidator(_ratio),
    Field(gt=0, le=MAX_RATIO),
    WithJsonSchema({"type": "string", "pattern": r"^\d{1,9}(\.\d{1,9})?x$"}),
]
Milliseconds = Annotated[float, Field(gt=0, le=MAX_MS)]
Tier = Annotated[int, Field(ge=0, le=MAX_TIER)]


class ServiceClass(Section):
    """Targets of a request, and what share of requests shall attain them. Without a target: best effort.

    `tpot` is a ratio to the zero-load latency (`1.2x` in the file), the other targets are in ms. `trace` is the
    share of the requests that is traced; None: as the gateway's `OTEL_TRACES_SAMPLER` says.
    """

    tpot: Ratio | None = None
    tpot_ms: Milliseconds | None = None
    ttft_ms: Milliseconds | None = None
    tier: Tier = DEFAULT_TIER
    objective: float | None = Field(default=None, ge=0, le=1)
    trace: float | None = Field(default=None, ge=0, le=1)

    def told(self) -> dict[str, Any]:
        """As the file would say it; None where there is nothing."""
        return {**self.model_dump(), "tpot": None if self.tpot is None else f"{self.tpot:g}x"}

    @property
    def has_target(self) -> bool:
        return (self.tpot, self.tpot_ms, self.ttft_ms) != (None, None, None)

    @model_validator(mode="after")
    def _fits_together(self) -> ServiceClass:
        if self.tpot is not None and self.tpot_ms is not None:
            raise problem("a class has at most one of tpot and tpot_ms", "tpot_ms")
        if self.objective is not None and not self.has_target:
            raise problem("needs a target: tpot, tpot_ms or ttft_ms", "objective")
        return self
