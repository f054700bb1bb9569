"""Who asks, and whose requests they may see. Everybody is one tenant, until there are keys."""

from __future__ import annotations

from collections.abc import Mapping

from services.gateway.errors import ApiError

OPEN_TENANT = "default"


def tenant_of(headers: Mapping[str, str]) -> str:
    """The tenant that a request belongs to."""
    del headers  # keys will be in them
    return OPEN_TENANT


def check_access(tenant: str, owner: str) -> None:
    """Raises ApiError 404 where a tenant asks for another's request: as if there were none."""
    if tenant != owner:
        raise unknown_stream()


def unknown_stream() -> ApiError:
    """404 for a request that nobody knows, or nobody any more."""
    return ApiError(
        404, "There is no such stream, or it ended more than ten minutes ago", code="stream_not_found", param="id"
    )
