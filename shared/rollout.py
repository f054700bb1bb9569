"""Staged introduction: which share of whose requests is served with speculation, and what becomes of the others.

Pure: the file's section and who is in which arm. What moves the share is services/gateway/ramp.py.
"""

from __future__ import annotations

import json
import re
from enum import StrEnum
from hashlib import blake2b
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from shared.settings import PREFIX, Name
from shared.yaml_file import Section, problem

PLAIN = "plain"
MAX_STEPS = 16
MAX_URL = 2048
DEFAULT_PERIOD_HOURS = 24.0
DEFAULT_MARGIN = 0.02
DEFAULT_MIN_REQUESTS = 100
DEFAULT_TIMEOUT_S = 120.0

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


class Arm(StrEnum):
    """Of a rollout; a request outside of any has none."""

    TREATMENT = "treatment"
    CONTROL = "control"


def _url(text: str) -> str:
    """An address that paths are put behind; credentials belong into `api_key_env`."""
    try:
        parts = urlsplit(text)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address or not text.isascii() or not text.isprintable() or " " in text:
        raise problem("must be an address such as http://host:8000/v1")
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise problem("must be an address without user, query and fragment")
    return text.rstrip("/")


def _variable(name: str) -> str:
    if not _VARIABLE.fullmatch(name):
        raise problem("must be the name of an environment variable")
    if name.upper().startswith((PREFIX, "REDIS_URL")):
        raise problem(f"must not be one of the service's own variables ({PREFIX}*, REDIS_URL)")
    return name


def _otherwise(value: Any) -> Any:
    return None if value == PLAIN else value


def _tell_plain(schema: dict[str, Any]) -> None:
    schema["anyOf"] = [{"const": PLAIN}, *schema["anyOf"]]
    schema["default"] = PLAIN


class Upstream(Section):
    """An existing OpenAI-compatible server; ``timeout_s`` is how long it may be silent."""

    upstream: Annotated[str, Field(max_length=MAX_URL), AfterValidator(_url)]
    api_key_env: Annotated[str, AfterValidator(_variable)] | None = None
    timeout_s: float = Field(default=DEFAULT_TIMEOUT_S, gt=0, le=3600)


Share = Annotated[float, Field(ge=0, le=1)]


class Rollout(Section):
    """The share of the named tenants' requests that are served with speculation; `otherwise` None: plain decoding.

    With a ramp the share is that of its current step. ``margin`` is by how much the attainment of these requests
    may be below that of the others, ``min_requests`` how many of a class it takes to judge, ``period_hours`` the
    least time that a step lasts.
    """

    share: Share | None = None
    tenants: tuple[Name, ...] = Field(min_length=1, strict=False)
    ramp: tuple[Share, ...] | None = Field(default=None, min_length=1, max_length=MAX_STEPS, strict=False)
    period_hours: float = Field(default=DEFAULT_PERIOD_HOURS, gt=0, le=24 * 90)
    margin: float = Field(default=DEFAULT_MARGIN, ge=0, le=1)
    min_requests: int = Field(default=DEFAULT_MIN_REQUESTS, ge=1, le=10**9)
    otherwise: Annotated[Upstream | None, BeforeValidator(_otherwise), Field(json_schema_extra=_tell_plain)] = None

    @model_validator(mode="after")
    def _fits_together(self) -> Rollout:
        if self.share is None and self.ramp is None:
            raise problem("is required where there is no ramp", "share")
        for index, step in enumerate((self.ramp or ())[1:], 1):
            if self.ramp is not None and step <= self.ramp[index - 1]:
                raise problem(f"must be above the step before, {self.ramp[index - 1]:g}", "ramp", index)
        if self.ramp is not None and self.share not in (None, self.ramp[0]):
            raise problem(f"must be the ramp's first step, {self.ramp[0]:g}, or be left out", "share")
        for index, name in enumerate(self.tenants):
            if name in self.tenants[:index]:
                raise problem("is given twice", "tenants", index)
        return self

    @property
    def steps(self) -> tuple[float, ...]:
        """Shares one after the other; a single one without a ramp."""
        return self.ramp or ((self.share or 0.0),)


def arm_of(tenant: str, key: str, share: float) -> Arm:
    """Always the same for the same tenant and key; a larger share only adds to those under treatment."""
    name = json.dumps([tenant, key]).encode()
    place = int.from_bytes(blake2b(name, digest_size=8, person=b"adaserve-arm").digest(), "big") / 2**64
    return Arm.TREATMENT if place < share else Arm.CONTROL
