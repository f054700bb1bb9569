"""What was seen of a deployment, and what is found in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
class Refusal:
    """What Redis has refused a user `count` times, the last time ``age_s`` ago.

    ``reason`` as Redis says it: `auth`, or `command`, `key` or `channel`; ``of`` names which one.
    """

    user: str
    reason: str
    of: str
    count: int
    age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Redis:
    """What Redis says of itself, and what it holds."""

    version: str = ""
    info: Mapping[str, Any] = field(default_factory=dict)
    members: Mapping[str, Mapping[str, Mapping[str, Any] | None]] = field(default_factory=dict)
    """Kind -> member -> what its heartbeat says, None without one."""
    skews_s: Mapping[str, float] = field(default_factory=dict)
    """`<kind> <member>` -> how far its clock is ahead of Redis', where it tells."""
    dead_letters: int = 0
    waiting: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    """By tier, requests that wait now, and how many more than a moment before."""
    without_group: Mapping[str, bool] = field(default_factory=dict)
    """Streams that lacked their group, then and a second later -> whether they are there at all."""
    library: int | None = None
    """Version of the function library, 0 for none; None: not known."""
    rights: Mapping[str, Sequence[str] | None] | None = None
    """User of a service -> what it may not though it must, None where there is no such user; None: not known."""
    has_other_cells_users: bool = False  # services' users may do nothing with the keys of this cell
    refusals: Sequence[Refusal] = ()
    clock_s: float | None = None
    unasked: Sequence[str] = ()
    """What was not looked at, because the user of this look may not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """What Prometheus has. ``needed``: service -> selectors of its triggers, without the release's `labels`.

    ``series``: how many a selector finds with them. `targets` are the labels of all services that are scraped,
    ``namespaces`` those of the cell. Without a ``namespace`` triggers ask for one that is not known.
    """

    needed: Mapping[str, Sequence[str]] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    namespace: str | None = None
    namespaces: Sequence[str] = ()
    targets: Sequence[Mapping[str, str]] = ()
    series: Mapping[str, int] = field(default_factory=dict)
    refused: float = 0.0  # calls that Redis refused a service for want of a right, lately

    def has_own(self, service: str) -> bool:
        """Whether one of its targets is the release's."""
        own = {**self.labels, "service": service}.items()
        return any(own <= labels.items() for labels in self.targets)


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
    redis_remedy: str = ""
    redis: Redis | None = None
    is_redis_local: bool = True  # reached without a network
    metrics_error: str = ""
    metrics_remedy: str = ""
    metrics: Metrics | None = None  # None where no Prometheus was named, or it did not answer
    unknown_variables: Sequence[str] = ()  # of this environment: what none of us reads, a clause for each
    otlp: Mapping[str, str] = field(default_factory=dict)  # endpoint -> why it cannot be reached, "" where it can
    load: float = 0.0
    cores: int = 1
    threads: int = 1

    @property
    def could_be_looked_at(self) -> bool:
        """Whether gateway or Redis answered."""
        return not self.gateway_error or self.redis is not None
