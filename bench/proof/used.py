"""What each tenant used in whole hours, brought to what was counted in a period. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TenantCounts:
    """Of `GET /admin/usage`."""

    requests: float = 0.0
    prompt_tokens: float = 0.0
    output_tokens: float = 0.0
    met: float = 0.0
    missed: float = 0.0

    def __add__(self, other: TenantCounts) -> TenantCounts:
        mine, theirs = ((one.requests, one.prompt_tokens, one.output_tokens, one.met, one.missed)
                        for one in (self, other))  # fmt: skip
        return TenantCounts(*(left + right for left, right in zip(mine, theirs, strict=True)))


def in_period(mine: TenantCounts, used: TenantCounts, counted: TenantCounts) -> TenantCounts:
    """Usage is of whole hours: a tenant's part of it, of what was ``counted`` in the period.

    Requests by those with a target, tokens by those of the output.
    """
    requests = ratio(counted.met + counted.missed, used.met + used.missed)
    tokens = ratio(counted.output_tokens, used.output_tokens)
    return TenantCounts(
        requests=requests * mine.requests,
        prompt_tokens=tokens * mine.prompt_tokens,
        output_tokens=tokens * mine.output_tokens,
        met=requests * mine.met,
        missed=requests * mine.missed,
    )


def ratio(above: float, below: float) -> float:
    """0 of nothing."""
    return above / below if below else 0.0
