"""Operators' orders in Redis: one hash, scope → order. Every verifier reads it, at once when `control` says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from redis import Redis

from shared.errors import UnreadableMessage
from shared.failures import bus_errors
from shared.modes import Order, Orders
from shared.replies import text
from shared.topics import Keys

MAX_SCOPES = 10_000


def read_orders(client: Redis, keys: Keys) -> Orders:
    """All orders. Raises BusUnavailable, and UnreadableMessage when one of them is of another version."""
    with bus_errors():
        packed: Any = client.hgetall(keys.modes)
    return unpack_orders(packed)


def unpack_orders(packed: Mapping[Any, bytes]) -> Orders:
    """Raises UnreadableMessage."""
    if len(packed) > MAX_SCOPES:
        raise UnreadableMessage(f"{len(packed)} mode orders; at most {MAX_SCOPES} are read")
    return Orders({text(name): Order.unpack(order) for name, order in packed.items()})
