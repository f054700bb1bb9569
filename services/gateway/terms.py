"""Under which terms a request is served: what its tenant's policy allows of what it asks for. Pure.

Without a policy there is one tenant, targets are what the client says, and every request has the middle tier.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from services.gateway.errors import ApiError, invalid
from services.gateway.slo import Slo
from shared.policy import Policy, ServiceClass, Tenant
from shared.scripts import UNSHARED
from shared.topics import NUM_TIERS

DEFAULT_TIER = NUM_TIERS // 2
TENANT_SHARE = 4.0  # of the places that are free: a tenant alone may fill four fifths of a queue
LOWEST_TIER_PART = 4  # best effort is refused first: its queue is so many times shorter


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of a queue: requests in all, and how many times the free places one tenant may hold."""

    limit: int
    share: float = UNSHARED


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Targets with their class, and the request's place among others."""

    tenant: str
    slo: Slo
    bounds: Bounds
    tier: int = DEFAULT_TIER
    weight: float = 1.0


def agree(
    policy: Policy | None, tenant: str, wanted: str | None, asked: Slo, *, zero_load_ms: float | None, limit: int
) -> Terms:
    """The terms of one request of a tenant that the policy knows.

    ``wanted`` is the class and ``asked`` the targets that the client gave, each of which goes before the class's.
    Raises ApiError 400 for a class where there are none, 403 for one that the tenant may not use.
    """
    if policy is None:
        if wanted is not None:
            raise invalid("adaserve.slo.class", "there are no classes without a policy")
        return Terms(tenant=tenant, slo=asked, bounds=Bounds(limit))
    allowed = policy.tenants[tenant]
    name = wanted or allowed.default
    if name not in allowed.classes:
        raise ApiError(
            403,
            f"adaserve.slo.class: {name[:64]!r} is not one of this tenant's: {', '.join(allowed.classes)}",
            code="class_not_allowed",
            param="adaserve.slo.class",
        )
    promised = policy.classes[name]
    return Terms(
        tenant=tenant,
        slo=_targets(name, promised, allowed, asked, zero_load_ms),
        bounds=Bounds(_limit(limit, promised.tier), TENANT_SHARE),
        tier=promised.tier,
        weight=allowed.weight,
    )


def offers(policy: Policy | None, tenant: str, *, zero_load_ms: float | None) -> list[dict[str, Any]]:
    """The classes that a tenant may use, with the targets in ms that they give now; null for none."""
    if policy is None:
        return []
    names = policy.tenants[tenant].classes
    found = {name: agree(policy, tenant, name, Slo(), zero_load_ms=zero_load_ms, limit=1) for name in names}
    return [
        {
            "class": name,
            "tpot_ms": _finite(terms.slo.tpot_ms),
            "ttft_ms": _finite(terms.slo.ttft_ms),
            "tier": terms.tier,
            "is_default": name == policy.tenants[tenant].default,
        }
        for name, terms in found.items()
    ]


def _finite(target_ms: float) -> float | None:
    return round(target_ms, 3) if math.isfinite(target_ms) else None


def _targets(name: str, promised: ServiceClass, allowed: Tenant, asked: Slo, zero_load_ms: float | None) -> Slo:
    tpot_ms = asked.tpot_ms if math.isfinite(asked.tpot_ms) else _tpot_ms(promised, zero_load_ms)
    ttft_ms = asked.ttft_ms if math.isfinite(asked.ttft_ms) else promised.ttft_ms or math.inf
    return Slo(max(tpot_ms, allowed.tpot_ms_min or 0.0), ttft_ms, name)


def _tpot_ms(promised: ServiceClass, zero_load_ms: float | None) -> float:
    """A multiple of the zero-load latency is no target before a verifier has told what that is."""
    if promised.tpot is not None:
        return promised.tpot * zero_load_ms if zero_load_ms is not None else math.inf
    return promised.tpot_ms or math.inf


def _limit(limit: int, tier: int) -> int:
    return limit if tier < NUM_TIERS - 1 else max(1, limit // LOWEST_TIER_PART)
