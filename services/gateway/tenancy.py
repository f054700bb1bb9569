"""Who asks, and whose requests they may see.

A request that came with an API key belongs to the key's tenant: authentication says so in two headers, which it
lets nobody else set. Without keys and without a policy everybody is one tenant; with a policy, clients name
themselves: that is trusted, so the gateway may only be reached from this machine or through a proxy that sets it.
"""

from __future__ import annotations

from collections.abc import Mapping

from services.gateway.errors import ApiError
from shared.policy import Policy

OPEN_TENANT = "default"
TENANT_HEADER = "x-adaserve-tenant"
KEY_HEADER = "x-adaserve-key"  # the id of the key that a request came with


def tenant_of(headers: Mapping[str, str], policy: Policy | None) -> str:
    """The tenant that a request belongs to. Raises ApiError 403 for one that the policy does not know."""
    has_key = KEY_HEADER in headers
    if policy is None:
        return headers.get(TENANT_HEADER, OPEN_TENANT) if has_key else OPEN_TENANT
    name = headers.get(TENANT_HEADER, OPEN_TENANT)
    if name not in policy.tenants and has_key:
        raise ApiError(403, f"The API key's tenant {name} is not in the policy", code="unknown_tenant")
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
