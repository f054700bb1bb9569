"""`adaserve mode`: shows and sets verification modes through a gateway."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from cli import admin


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """An order to give; without a mode nothing is changed."""

    mode: str | None = None
    tenant: str | None = None
    slo_class: str | None = None
    reason: str = ""

    def body(self) -> dict[str, Any]:
        """The JSON of PUT /admin/mode."""
        return {"mode": self.mode, "tenant": self.tenant, "class": self.slo_class, "reason": self.reason}


def ask(url: str, admin_key: str | None, wanted: Wanted) -> dict[str, Any]:
    """The modes after it. Raises AdminFailed."""
    if wanted.mode is None:
        return admin.ask(url, admin_key, "GET", "/admin/mode")
    return admin.ask(url, admin_key, "PUT", "/admin/mode", wanted.body())


def lines(modes: dict[str, Any]) -> list[str]:
    """For people: what is ordered, and what every verifier does."""
    orders = modes["orders"] or {"cell": {"mode": "auto", "reason": "", "by": "", "at_ms": 0}}
    told = [
        f"ordered  {place:<24} {_words(order['mode'], order['reason'] + _by(order))}"
        for place, order in orders.items()
    ]
    return told + [
        f"verifier {member:<24} {_words(now['mode'] or '?', (now['reason'] or '') + _since(now['since_ms']))}"
        for member, now in modes["verifiers"].items()
    ]


def _words(mode: str, about: str) -> str:
    """Without a reason there is no gap where it would stand."""
    if about.startswith((",", " ")):
        return mode + about
    return f"{mode:<18} {about}".rstrip()


def _by(order: dict[str, Any]) -> str:
    return f" (by {order['by']}{_since(order['at_ms'])})" if order["by"] else ""


def _since(at_ms: float | None) -> str:
    if not at_ms:
        return ""
    return f", {max(0.0, time.time() - at_ms / 1_000):.0f} s ago"
