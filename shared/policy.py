"""What an operator promises to whom: classes and the tenants that may use them. Pure but for `load_policy`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from shared.settings import Name
from shared.yaml_file import Section, YamlFile, problem

MAX_RATIO = 1000.0
MAX_MS = 3_600_000.0
MAX_TOKENS = 1 << 20
DEFAULT_TIER = 2

_RATIO = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)x", re.ASCII)


def _ratio(value: Any) -> float:
    match = _RATIO.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise problem("must be a multiple of the zero-load latency, such as 1.2x")
    return float(match[1])


def _unsupported(_: Any) -> None:
    raise problem("not supported yet; remove this section")


Ratio = Annotated[float, BeforeValidator(_ratio), Field(gt=0, le=MAX_RATIO)]
Milliseconds = Annotated[float, Field(gt=0, le=MAX_MS)]
Count = Annotated[int, Field(ge=1, le=10**12)]
Acceptance = Literal["exact", "typical"]
Unsupported = Annotated[None, BeforeValidator(_unsupported)]


class ServiceClass(Section):
    """Targets of a request, and what share of requests shall attain them. Without a target: best effort.

    `tpot` is a ratio to the zero-load latency (`1.2x` in the file), the other targets are in ms.
    """

    tpot: Ratio | None = None
    tpot_ms: Milliseconds | None = None
    ttft_ms: Milliseconds | None = None
    tier: int = Field(default=DEFAULT_TIER, ge=0, le=3)
    objective: float | None = Field(default=None, ge=0, le=1)

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


class Tenant(Section):
    """A customer: the classes it may use, its share where requests compete, and its limits (None: no limit).

    `rpm` and `tpm` are requests and tokens per minute, `tpot_ms_min` the fastest target it may ask for.
    """

    classes: tuple[Name, ...] = Field(min_length=1, strict=False)
    default: Name
    weight: float = Field(default=1.0, gt=0, le=1000)
    rpm: Count | None = None
    tpm: Count | None = None
    max_concurrent: int | None = Field(default=None, ge=1, le=65_536)
    max_tokens: int | None = Field(default=None, ge=1, le=MAX_TOKENS)
    acceptance: tuple[Acceptance, ...] = Field(default=("exact",), min_length=1, strict=False)
    tpot_ms_min: Milliseconds | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Tenant:
        for index, name in enumerate(self.classes):
            if name in self.classes[:index]:
                raise problem("is given twice", "classes", index)
        if self.default not in self.classes:
            raise problem(f"must be one of the tenant's classes: {', '.join(self.classes)}", "default")
        return self


class Policy(Section):
    """Classes and tenants by name, in the order of the file."""

    classes: Mapping[Name, ServiceClass] = Field(min_length=1)
    tenants: Mapping[Name, Tenant] = Field(min_length=1)
    schedules: Unsupported = None
    rollout: Unsupported = None

    @model_validator(mode="after")
    def _classes_exist(self) -> Policy:
        for tenant, settings in self.tenants.items():
            for index, name in enumerate(settings.classes):
                if name not in self.classes:
                    words = f"no such class; there are {', '.join(self.classes)}"
                    raise problem(words, "tenants", tenant, "classes", index)
        return self


def load_policy(path: Path) -> Policy:
    """Raises PolicyError naming the file, the line, the field, the value and what is allowed."""
    return YamlFile.read(path).model(Policy)
