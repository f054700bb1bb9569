"""Verification modes: whether requests may be speculated on, for the cell, a tenant or a class. Pure.

Whatever the mode, tokens are the same; it only says what is spent to get them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

import msgpack

from shared.errors import ConfigurationError, UnreadableMessage

CELL = "cell"
MAX_NAME = 128  # characters of a tenant or class
MAX_REASON = 256
_MAX_BYTES = 2048
_FIELDS = {"mode": str, "reason": str, "by": str, "at_ms": int}


class Mode(StrEnum):
    """``auto``: unless the watch objects; ``speculative``: whatever it says; ``full_verification``: never."""

    AUTO = "auto"
    SPECULATIVE = "speculative"
    FULL_VERIFICATION = "full_verification"


def scope(*, tenant: str | None = None, slo_class: str | None = None) -> str:
    """Name of a scope: the cell, one tenant, or one class. Raises ConfigurationError naming field and limit."""
    if tenant is not None and slo_class is not None:
        raise ConfigurationError("tenant and class: a mode belongs to one of them, not to both")
    for kind, name in (("tenant", tenant), ("class", slo_class)):
        if name is not None:
            if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
                raise ConfigurationError(f"{kind}={name[:64]!r}: must be 1 to {MAX_NAME} printable characters")
            return f"{kind}:{name}"
    return CELL


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What an operator has set for one scope, why, who, and when (ms since the epoch)."""

    mode: Mode
    reason: str = ""
    by: str = ""
    at_ms: int = 0

    def pack(self) -> bytes:
        """As Redis holds it."""
        packed: bytes = msgpack.packb(self.json())
        return packed

    @classmethod
    def unpack(cls, packed: bytes) -> Self:
        """Raises UnreadableMessage."""
        try:
            fields: Any = msgpack.unpackb(packed, max_ext_len=0) if len(packed) <= _MAX_BYTES else None
            if not isinstance(fields, dict) or set(fields) != set(_FIELDS):
                raise ValueError("not the fields of an order")
            for name, kind in _FIELDS.items():
                if type(fields[name]) is not kind:
                    raise ValueError(f"{name} is not of type {kind.__name__}")
            return cls(mode=Mode(fields["mode"]), reason=fields["reason"], by=fields["by"], at_ms=fields["at_ms"])
        except (ValueError, TypeError, msgpack.UnpackException) as error:
            raise UnreadableMessage(f"mode order: {error}") from None

    def json(self) -> dict[str, Any]:
        """For people and replies."""
        return {"mode": self.mode.value, "reason": self.reason, "by": self.by, "at_ms": self.at_ms}


@dataclass(frozen=True, slots=True)
class Orders:
    """All orders by scope. What nobody has ordered is ``auto``."""

    by_scope: Mapping[str, Order] = field(default_factory=dict)

    def mode_of(self, tenant: str, slo_class: str) -> Mode:
        """Of one request. Full verification for any scope it belongs to wins: a fail-safe is not overruled by a
        detail; then ``speculative`` for any of them."""
        scopes = (CELL, f"tenant:{tenant}", f"class:{slo_class}")
        wanted = {self.by_scope[name].mode for name in scopes if name in self.by_scope}
        if Mode.FULL_VERIFICATION in wanted:
            return Mode.FULL_VERIFICATION
        return Mode.SPECULATIVE if Mode.SPECULATIVE in wanted else Mode.AUTO

    @property
    def cell(self) -> Mode:
        """For the whole cell."""
        return self.by_scope[CELL].mode if CELL in self.by_scope else Mode.AUTO
