"""Who asks, and whose requests they may see.

Without a policy everybody is one tenant. With one, and until there are keys, clients name themselves in a header:
that is trusted, so the gateway may only be reached from this machine or through a proxy that sets it.
"""

from __future__ import annotations

from collections.abc import Mapping

from services.gateway.errors import ApiError
from shared.policy import Policy

OPEN_TENANT = "default"
TENANT_HEADER = "x-adaserve-tenant"


def tenant_of(headers: Mapping[str, str], policy: Policy | None) -> str:
    """The tenant that a request belongs to. Raises ApiError 403 for one that the policy does not know."""
    if policy is None:
        return OPEN_TENANT
    name = headers.get(TENANT_HEADER, OPEN_TENANT)
    if name not in policy.tenants:
        said = "is required: the policy has no tenant called default"
        raise ApiError(
            403,
            f"{TENANT_HEADER} {'names no tenant of the policy' if TENANT_HEADER in headers else said}",
            code="unknown_tenant",
            param=TENANT_HEADER,
        )
    return name


def check_access(tenant: str, owner: str) -> None:
    """Raises ApiError 404 where a tenant asks for another's request: as if there were none."""
    if tenant != owner:
        raise unknown_stream()


def unknown_stream() -> ApiError:
    """404 for a request that nobody knows, or nobody any more."""
    return ApiError(
        404, "There is no such stream, or it ended more than ten minutes ago", code="stream_not_found", param="id"
    )
