"""Which requests may come in while nobody is asked for a key: those that no foreign web page sends.

A browser on this machine reaches a gateway on loopback for every page it shows. By DNS rebinding a page's own name
becomes 127.0.0.1, so that to the browser the gateway is that page's server: only `Host` tells. And without any
trick it sends requests that it cannot read the answers of: those tell their `Origin`. Pure.
"""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from services.gateway.errors import ApiError
from services.gateway.settings import is_loopback

_ADVICE = "or ask for keys (docs/operations.md, API keys)"


def check(headers: Headers, allowed: Collection[str]) -> None:
    """Raises ApiError 403 unless `Host` is this machine or an allowed name, and `Origin`, if any, the same place.

    ``allowed`` are names without ports, in lower case. An address of loopback is never somebody's name.
    """
    host = headers.get("host", "")
    name = _name_of(host)
    if not is_loopback(name) and name not in allowed:
        raise ApiError(
            403,
            f"Host: {host[:64]!r} is not this machine, and nobody is asked for a key here; ask localhost, name "
            f"the host in ADASERVE_ALLOWED_HOSTS, {_ADVICE}",
            code="host_not_allowed",
            param="host",
        )
    origin = headers.get("origin")
    is_foreign = origin is not None and not _is_of(origin, host, allowed)
    if is_foreign or headers.get("sec-fetch-site") == "cross-site":
        raise ApiError(
            403,
            "Origin: the request comes from a page of another server, and nobody is asked for a key here; name "
            f"its host in ADASERVE_ALLOWED_HOSTS if a proxy serves it, {_ADVICE}",
            code="origin_not_allowed",
            param="origin",
        )


def _is_of(origin: str, host: str, allowed: Collection[str]) -> bool:
    """Whether the page is of the server that it asks, another port being another server; `null` never is."""
    place = origin.partition("://")[2].lower()
    return place == host.lower() or _name_of(place) in allowed


def _name_of(host: str) -> str:
    """Without the port, in lower case; "" for what is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
