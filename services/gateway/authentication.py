"""The first check of every request, before its body is read: which key it came with, and what that opens."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from services.gateway import origins
from services.gateway.errors import ApiError
from services.gateway.key_ring import KeyRing
from services.gateway.static_files import PREFIX
from services.gateway.tenancy import KEY_HEADER, TENANT_HEADER
from shared import signals
from shared.api_keys import ApiKey, Verdict, judge
from shared.api_keys import Scope as KeyScope
from shared.telemetry import Telemetry

ALWAYS_OPEN = frozenset({"/", "/live", "/ready", "/metrics", "/version", "/openapi.json"})
ADMIN = "/admin"
OPEN_DOOR = "anonymous"
OPEN_OPERATOR = "loopback"
STATIC_OPERATOR = "admin"

_OURS = (TENANT_HEADER.encode(), KEY_HEADER.encode())
_REASONS = {
    Verdict.MALFORMED: ("The API key is none of this server's: they are sk-<key id>-<secret>", "invalid_api_key"),
    Verdict.UNKNOWN: ("The API key is not known", "invalid_api_key"),
    Verdict.EXPIRED: ("The API key has expired", "expired_api_key"),
    Verdict.REVOKED: ("The API key has been revoked", "revoked_api_key"),
}
_NOT_ADMIN = {
    Verdict.MALFORMED: (
        "This is neither ADASERVE_ADMIN_KEY nor an API key, sk-<key id>-<secret>, of scope admin",
        "invalid_api_key",
    ),
}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request: a key's id, or how else the door was open. ``tenant`` is None where no key says it."""

    key_id: str
    tenant: str | None = None


_UNASKED = (Caller(OPEN_DOOR), Caller(OPEN_OPERATOR))


class Authenticator:
    """Asks for a key wherever any is known or the gateway can be reached from other machines.

    Without a key of its own, /admin is open on loopback only: whoever is there can read the gateway's memory. What
    comes in without a key must not come from a foreign web page (services.gateway.origins).
    """

    def __init__(
        self,
        ring: KeyRing,
        telemetry: Telemetry,
        *,
        admin_key: str | None,
        is_local: bool,
        is_unsafe: bool,
        allowed_hosts: Collection[str] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ring = ring
        self._telemetry = telemetry
        self._admin_key = admin_key
        self._is_local = is_local
        self._is_unsafe = is_unsafe
        self._allowed_hosts = allowed_hosts
        self._clock = clock

    @property
    def can_be_bound(self) -> bool:
        """Whether the gateway may listen where it is told to: not beyond loopback while nobody has a key."""
        return self._is_local or self._is_unsafe or bool(self._ring.keys) or self._admin_key is not None

    def caller(self, path: str, headers: Headers) -> Caller:
        """Raises ApiError 401 and 403."""
        authorization = headers.get("authorization", "")
        scope = KeyScope.ADMIN if path == ADMIN or path.startswith(f"{ADMIN}/") else KeyScope.INFERENCE
        try:
            is_admin = scope is KeyScope.ADMIN
            caller = self._operator(authorization) if is_admin else self._user(authorization)
        except Refused as refused:
            self._telemetry.add(signals.AUTH_FAILURES, reason=refused.reason)
            raise
        if caller in _UNASKED and self._is_local:
            origins.check(headers, self._allowed_hosts)
        return caller

    def _user(self, authorization: str) -> Caller:
        if not self._ring.keys and (self._is_local or self._is_unsafe):
            return Caller(OPEN_DOOR)
        key = self._key(_bearer(authorization))
        if KeyScope.INFERENCE not in key.scopes:
            raise _wrong_scope(KeyScope.INFERENCE)
        return Caller(key.id, key.tenant)

    def _operator(self, authorization: str) -> Caller:
        has_key = self._admin_key is not None or self._ring.has_admin
        if not has_key and self._is_local:
            return Caller(OPEN_OPERATOR)
        if not has_key:
            raise Refused(
                401, "No admin key is set: start the gateway with ADASERVE_ADMIN_KEY", "no_admin_key", "missing"
            )
        given = _bearer(authorization)
        if self._admin_key is not None and hmac.compare_digest(given.encode(), self._admin_key.encode()):
            return Caller(STATIC_OPERATOR)
        key = self._key(given, _REASONS if self._admin_key is None else _REASONS | _NOT_ADMIN)
        if KeyScope.ADMIN not in key.scopes:
            raise _wrong_scope(KeyScope.ADMIN)
        return Caller(key.id, key.tenant)

    def _key(self, given: str, reasons: Mapping[Verdict, tuple[str, str]] = _REASONS) -> ApiKey:
        verdict, key = judge(self._ring.keys, given, self._clock() * 1_000)
        if verdict is not Verdict.OK or key is None:
            message, code = reasons[verdict]
            raise Refused(401, message, code, verdict)
        return key


class Refused(ApiError):
    """With what the metric counts it under."""

    def __init__(self, status: int, message: str, code: str, reason: str) -> None:
        super().__init__(status, message, code=code)
        self.reason = reason

    def headers(self) -> dict[str, str]:
        return {**super().headers(), **({"www-authenticate": "Bearer"} if self.status == 401 else {})}


class Authentication:
    """Pure ASGI middleware: ``request.state.caller``, and the tenant's header set by us and nobody else."""

    def __init__(self, app: ASGIApp, authenticator: Authenticator) -> None:
        self._app = app
        self._authenticator = authenticator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not _is_open(scope["path"]):
            headers = Headers(scope=scope)
            try:
                caller = self._authenticator.caller(scope["path"], headers)
                scope = _entered(scope, caller, headers.get(TENANT_HEADER))
            except ApiError as error:
                await error.response()(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _is_open(path: str) -> bool:
    """The console's files hold no secret: whoever opens it types the key there."""
    return path in ALWAYS_OPEN or path.startswith(PREFIX)


def _entered(scope: Scope, caller: Caller, said: str | None) -> Scope:
    """The request as the application sees it: without the key, which nobody needs any more."""
    if caller.tenant is None:
        dropped, added = {KEY_HEADER.encode(), b"authorization"}, []
    elif said not in (None, caller.tenant):
        raise Refused(
            403,
            f"{TENANT_HEADER}: the API key is of another tenant; leave the header out",
            "tenant_not_allowed",
            "tenant",
        )
    else:
        dropped = {*_OURS, b"authorization"}
        added = list(zip(_OURS, (caller.tenant.encode(), caller.key_id.encode()), strict=True))
    kept = [(name, value) for name, value in scope["headers"] if name.lower() not in dropped]
    state = {**scope.get("state", {}), "caller": caller}
    return {**scope, "headers": [*kept, *added], "state": state}


def _bearer(authorization: str) -> str:
    scheme, _, key = authorization.partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise Refused(401, "An API key is needed: Authorization: Bearer sk-…", "missing_api_key", "missing")
    return key.strip()


def _wrong_scope(needed: KeyScope) -> Refused:
    return Refused(403, f"The API key has not the scope {needed}", "scope_not_allowed", "scope")
