"""What was seen of a deployment, and what is found in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Severity(StrEnum):
    """How much it matters."""

    PROBLEM = "problem"
    WARNING = "warning"
    FINE = "fine"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found, why it matters, and what to do about it; the last two empty where all is fine."""

    severity: Severity
    subject: str
    what: str
    why: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Redis:
    """What Redis says of itself. ``members``: kind -> member -> what its heartbeat says, None without one.

    ``waiting``: by tier, requests that wait now, and how many more than a moment before.
    """

    version: str = ""
    info: Mapping[str, Any] = field(default_factory=dict)
    members: Mapping[str, Mapping[str, Mapping[str, Any] | None]] = field(default_factory=dict)
    dead_letters: int = 0
    waiting: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    clock_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """``error`` of the gateway or Redis: why it could not be asked, "" where it answers; None: not asked.

    `statuses` are those of the gateway's paths, `answers` the JSON of those that succeeded. Clocks are Unix time
    in seconds; the gateway's only to the second.
    """

    url: str
    cell: str = "default"
    tenant: str | None = None
    has_key: bool = False  # an API key, which belongs to a tenant
    gateway_error: str = ""
    statuses: Mapping[str, int] = field(default_factory=dict)
    codes: Mapping[str, str | None] = field(default_factory=dict)  # of the answers that are errors
    answers: Mapping[str, Any] = field(default_factory=dict)
    gateway_clock_s: float | None = None
    redis_error: str | None = None
    redis: Redis | None = None
    otlp: Mapping[str, str] = field(default_factory=dict)  # endpoint -> why it cannot be reached, "" where it can
    load: float = 0.0
    cores: int = 1
    threads: int = 1

    @property
    def could_be_looked_at(self) -> bool:
        """Whether gateway or Redis answered."""
        return not self.gateway_error or self.redis is not None
