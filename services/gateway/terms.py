"""Under which terms a request is served: what its tenant's policy allows of what it asks for. Pure.

Without a policy there is one tenant, targets are what the client says, and every request has the middle tier.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from services.gateway.errors import ApiError, invalid
from services.gateway.slo import Slo
from shared.policy import Policy, ServiceClass, Tenant
from shared.rollout import Arm, Rollout, Upstream
from shared.scripts import UNSHARED
from shared.topics import NUM_TIERS

DEFAULT_TIER = NUM_TIERS // 2
TENANT_SHARE = 4.0  # of the places that are free: a tenant alone may fill four fifths of a queue
NO_WISH = ("auto", "default")  # service tiers that leave the class to the server, unless the policy maps them
DEFAULT_SERVICE_TIER = "default"
LOWEST_TIER_PART = 4  # best effort is refused first: its queue is so many times shorter


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of a queue: requests in all, and how many times the free places one tenant may hold."""

    limit: int
    share: float = UNSHARED


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a client says of how it wants to be served: a class, OpenAI's ``service_tier``, targets in ms, and how
    drafted tokens may be accepted.
    """

    service_class: str | None = None
    service_tier: str | None = None
    targets: Slo = Slo()
    acceptance: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Targets with their class, and the request's place among others.

    ``service_tier`` is the one in use, "" where none was asked for; ``tpot_raised_from_ms`` the target that was
    below the tenant's least, None for none; ``max_tokens`` the most that the tenant may have of one request.
    ``arm`` is that of a rollout, and ``upstream`` the other server that the request is for, None for this one.
    ``typical`` is the threshold of typical acceptance, 0 for exact. ``trace`` is the share of such requests that
    is traced, None where the class does not say.
    """

    tenant: str
    slo: Slo
    bounds: Bounds
    tier: int = DEFAULT_TIER
    weight: float = 1.0
    service_tier: str = ""
    tpot_raised_from_ms: float | None = None
    max_tokens: int | None = None
    arm: Arm | None = None
    upstream: Upstream | None = None
    typical: float = 0.0
    trace: float | None = None

    @property
    def speculates(self) -> bool:
        """Whether the request may be speculated on; it is not in the control arm of a rollout."""
        return self.arm is not Arm.CONTROL

    def in_arm(self, arm: Arm | None, rollout: Rollout | None) -> Terms:
        """The same, in an arm of the rollout; ``upstream`` is where its control arm is served, None for here."""
        others = rollout.otherwise if rollout is not None and arm is Arm.CONTROL else None
        return replace(self, arm=arm, upstream=others)


def agree(
    policy: Policy | None, tenant: str, wish: Wish, *, at: datetime, zero_load_ms: float | None, limit: int
) -> Terms:
    """The terms of one request of a tenant that the policy knows, at this time.

    The class is the one wished for, else that of the service tier, else the tenant's default; each target that the
    client gave goes before the class's. Raises ApiError 400 for a class or tier where there are none, 403 for a
    class that the tenant may not use.
    """
    if policy is None:
        return _without_policy(tenant, wish, limit)
    allowed = policy.tenants[tenant]
    name = _class_name(policy, allowed, wish)
    promised = policy.promise(tenant, name, at)
    slo = _targets(name, promised, wish.targets, zero_load_ms)
    least_ms = allowed.tpot_ms_min or 0.0
    return Terms(
        tenant=tenant,
        slo=replace(slo, tpot_ms=max(slo.tpot_ms, least_ms)),
        bounds=Bounds(_limit(limit, promised.tier), TENANT_SHARE),
        tier=promised.tier,
        weight=allowed.weight,
        service_tier=_tier_in_use(policy, name, wish),
        tpot_raised_from_ms=slo.tpot_ms if slo.tpot_ms < least_ms else None,
        max_tokens=allowed.max_tokens,
        typical=_typical(allowed.typical, wish),
        trace=promised.trace,
    )


def offers(
    policy: Policy | None, tenant: str, *, at: datetime, zero_load_ms: float | None
) -> list[dict[str, Any]]:
    """The classes that a tenant may use, with the targets in ms that they give at that time; null for none."""
    if policy is None:
        return []
    names = policy.tenants[tenant].classes
    found = {
        name: agree(policy, tenant, Wish(service_class=name), at=at, zero_load_ms=zero_load_ms, limit=1)
        for name in names
    }
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


def _without_policy(tenant: str, wish: Wish, limit: int) -> Terms:
    if wish.service_class is not None:
        raise invalid("adaserve.slo.class", "there are no classes without a policy")
    if wish.service_tier not in (None, *NO_WISH):
        raise _unmapped(wish.service_tier or "", "there are none without a policy")
    _typical(None, wish)
    tier = DEFAULT_SERVICE_TIER if wish.service_tier else ""
    return Terms(tenant=tenant, slo=wish.targets, bounds=Bounds(limit), service_tier=tier)


def _typical(threshold: float | None, wish: Wish) -> float:
    """Only on request, and only where the policy allows it."""
    if wish.acceptance != "typical":
        return 0.0
    if threshold is None:
        raise ApiError(
            403,
            "adaserve.acceptance: 'typical' is not allowed by this tenant's policy; 'exact' is",
            code="acceptance_not_allowed",
            param="adaserve.acceptance",
        )
    return threshold


def _class_name(policy: Policy, allowed: Tenant, wish: Wish) -> str:
    if wish.service_class is not None:
        return _allowed("adaserve.slo.class", wish.service_class, allowed)
    mapped = _mapped(policy, wish.service_tier)
    return allowed.default if mapped is None else _allowed("service_tier", mapped, allowed)


def _mapped(policy: Policy, service_tier: str | None) -> str | None:
    """The class of a service tier; None where that leaves the choice to the server."""
    mapped = next((name for tier, name in policy.service_tiers.items() if tier == service_tier), None)
    if mapped is not None:
        return mapped
    if service_tier not in (None, *NO_WISH):
        raise _unmapped(service_tier or "", f"the policy has {', '.join(policy.service_tiers) or 'none'}")
    return None


def _tier_in_use(policy: Policy, name: str, wish: Wish) -> str:
    """As OpenAI tells it: the tier whose class serves the request, which another class in the body may not be."""
    if wish.service_tier is None:
        return ""
    is_used = (wish.service_tier, name) in policy.service_tiers.items()
    return wish.service_tier if is_used else DEFAULT_SERVICE_TIER


def _allowed(param: str, name: str, allowed: Tenant) -> str:
    if name not in allowed.classes:
        raise ApiError(
            403,
            f"{param}: class {name[:64]!r} is not one of this tenant's: {', '.join(allowed.classes)}",
            code="class_not_allowed",
            param=param,
        )
    return name


def _unmapped(service_tier: str, words: str) -> ApiError:
    return invalid(
        "service_tier", f"{service_tier!r} is no tier of this server; {words}", code="unsupported_parameter"
    )


def _targets(name: str, promised: ServiceClass, asked: Slo, zero_load_ms: float | None) -> Slo:
    tpot_ms = asked.tpot_ms if math.isfinite(asked.tpot_ms) else tpot_ms_of(promised, zero_load_ms)
    ttft_ms = asked.ttft_ms if math.isfinite(asked.ttft_ms) else promised.ttft_ms or math.inf
    return Slo(tpot_ms, ttft_ms, name)


def tpot_ms_of(promised: ServiceClass, zero_load_ms: float | None) -> float:
    """Infinity for none: a multiple of the zero-load latency is none before a verifier has told what that is."""
    if promised.tpot is not None:
        return promised.tpot * zero_load_ms if zero_load_ms is not None else math.inf
    return promised.tpot_ms or math.inf


def _limit(limit: int, tier: int) -> int:
    return limit if tier < NUM_TIERS - 1 else max(1, limit // LOWEST_TIER_PART)
