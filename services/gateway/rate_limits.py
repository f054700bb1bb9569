"""Limits per minute: which minute counts, what is left of it, and how OpenAI's headers tell that. Pure.

Windows are the minutes of the clock, the same for all gateways. So a client that sends at the end of one and at
the beginning of the next may get twice its limit within seconds, as with any fixed window; an hour's sum is right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from services.gateway.errors import ApiError

WINDOW_S = 60
KEPT_S = 2 * WINDOW_S  # a counter: for what a request that ends in the next minute gives back to its own

Unit = Literal["requests", "tokens"]
FIELDS: Mapping[Unit, str] = {"requests": "rpm", "tokens": "tpm"}


@dataclass(frozen=True, slots=True)
class Window:
    """One minute, counted from the epoch, and how many seconds of it are left."""

    minute: int
    left_s: float

    @classmethod
    def at(cls, now_s: float) -> Window:
        """The one that a moment belongs to, in s since the epoch."""
        minute = int(now_s // WINDOW_S)
        return cls(minute, (minute + 1) * WINDOW_S - now_s)

    def is_over(self, now_s: float) -> bool:
        return now_s >= (self.minute + 1) * WINDOW_S


@dataclass(frozen=True, slots=True)
class Standing:
    """Of one limit after a request: how much was used in this window, with it if it was let in."""

    unit: Unit
    limit: int
    used: int
    reset_s: float

    def headers(self) -> dict[str, str]:
        """OpenAI's."""
        return {
            f"x-ratelimit-limit-{self.unit}": str(self.limit),
            f"x-ratelimit-remaining-{self.unit}": str(max(0, self.limit - self.used)),
            f"x-ratelimit-reset-{self.unit}": duration(self.reset_s),
        }


def headers_of(standings: Mapping[Unit, Standing]) -> dict[str, str]:
    """Of all limits that a tenant has."""
    return {name: value for standing in standings.values() for name, value in standing.headers().items()}


class LimitReached(ApiError):
    """429 with the headers of all limits."""

    def __init__(self, message: str, *, code: str, retry_after_s: float, field: str, limit: int) -> None:
        super().__init__(429, message, code=code, retry_after_s=retry_after_s, details={field: limit})
        self.standings: dict[str, str] = {}

    def headers(self) -> dict[str, str]:
        return {**super().headers(), **self.standings}


def exceeded(standing: Standing, tenant: str, asked: int) -> LimitReached:
    """429 for a request that does not fit into this minute any more; ``standing`` is without it."""
    left = max(0, standing.limit - standing.used)
    field = FIELDS[standing.unit]
    return LimitReached(
        f"tenant {tenant} may use {standing.limit} {standing.unit} per minute ({field}); {left} are left in this "
        f"one, and the request takes {asked}",
        code="rate_limit_exceeded",
        retry_after_s=standing.reset_s,
        field=field,
        limit=standing.limit,
    )


def too_many_at_once(tenant: str, limit: int, asked: int, retry_after_s: float) -> LimitReached:
    """429 while as many requests run as may."""
    more = "" if asked == 1 else f"; this one asks for {asked} choices, each of which counts"
    return LimitReached(
        f"tenant {tenant} may have {limit} requests under way at a time (max_concurrent){more}",
        code="concurrency_limit_exceeded",
        retry_after_s=retry_after_s,
        field="max_concurrent",
        limit=limit,
    )


def too_many_inspected(limit: int, retry_after_s: float) -> ApiError:
    """429 while as many requests of the cell are inspected as may be."""
    return ApiError(
        429,
        f"adaserve.inspect: {limit} requests may be inspected at a time, of all tenants together",
        code="inspect_limit_exceeded",
        param="adaserve.inspect",
        retry_after_s=retry_after_s,
    )


def never_fits(field: str, value: int, limit: int, tenant: str, param: str) -> ApiError:
    """400: no minute is long enough for it, so that asking again is of no use."""
    return ApiError(
        400,
        f"{param}: the request takes {value}, and tenant {tenant} may never use more than {limit} ({field})",
        code="exceeds_tenant_limit",
        param=param,
    )


def duration(seconds: float) -> str:
    """As OpenAI writes them: `250ms`, `8.64s`, `1m0s`."""
    ms = max(0, round(seconds * 1_000))
    if ms < 1_000:
        return f"{ms}ms"
    minutes, rest_ms = divmod(ms, 60_000)
    rest = f"{rest_ms / 1_000:g}s"
    return f"{minutes}m{rest}" if minutes else rest
