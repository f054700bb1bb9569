"""Verification modes and their orders (shared/modes.py)."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import ConfigurationError, UnreadableMessage
from shared.mode_store import MAX_SCOPES, unpack_orders
from shared.modes import CELL, MAX_NAME, Mode, Order, Orders, scope

ORDERS = st.builds(
    Order,
    mode=st.sampled_from(Mode),
    reason=st.text(max_size=40),
    by=st.text(max_size=10),
    at_ms=st.integers(0, 2**53),
)


@given(ORDERS)
def test_an_order_is_read_back_as_it_was(order: Order) -> None:
    assert Order.unpack(order.pack()) == order


@given(st.binary(max_size=64))
def test_other_bytes_are_unreadable(packed: bytes) -> None:
    with pytest.raises(UnreadableMessage):
        Order.unpack(packed)


def test_an_order_of_an_unknown_mode_or_size_is_unreadable() -> None:
    odd = {**Order(mode=Mode.AUTO).json(), "mode": "turbo"}
    with pytest.raises(UnreadableMessage, match="turbo"):
        Order.unpack(msgpack.packb(odd))
    with pytest.raises(UnreadableMessage):
        Order.unpack(Order(mode=Mode.AUTO, reason="x" * 4000).pack())
    with pytest.raises(UnreadableMessage, match=str(MAX_SCOPES)):
        unpack_orders(dict.fromkeys(map(str, range(MAX_SCOPES + 1)), b""))


@pytest.mark.parametrize(
    "change", [{"at_ms": float("inf")}, {"at_ms": True}, {"at_ms": "1"}, {"reason": 5}, {"by": None}, {"mode": []}]
)
def test_an_order_with_a_field_of_another_type_is_unreadable(change: dict[str, object]) -> None:
    odd = {**Order(mode=Mode.AUTO).json(), **change}
    with pytest.raises(UnreadableMessage, match=next(iter(change))):
        Order.unpack(msgpack.packb(odd))


def test_a_scope_is_the_cell_a_tenant_or_a_class() -> None:
    assert scope() == CELL
    assert scope(tenant="acme") == "tenant:acme"
    assert scope(slo_class="coding") == "class:coding"
    with pytest.raises(ConfigurationError, match="not to both"):
        scope(tenant="acme", slo_class="coding")
    for name in ("", "a\nb", "x" * (MAX_NAME + 1)):
        with pytest.raises(ConfigurationError, match=f"1 to {MAX_NAME}"):
            scope(tenant=name)


def test_full_verification_of_any_scope_wins() -> None:
    full, forced = Order(mode=Mode.FULL_VERIFICATION), Order(mode=Mode.SPECULATIVE)
    assert Orders().mode_of("acme", "coding") is Mode.AUTO
    assert Orders().cell is Mode.AUTO
    orders = Orders({"tenant:acme": forced, "class:exact": full})
    assert orders.mode_of("acme", "coding") is Mode.SPECULATIVE
    assert orders.mode_of("acme", "exact") is Mode.FULL_VERIFICATION
    assert orders.mode_of("zeta", "coding") is Mode.AUTO
    emergency = Orders({CELL: full, "tenant:acme": forced})
    assert emergency.mode_of("acme", "coding") is Mode.FULL_VERIFICATION
    assert emergency.cell is Mode.FULL_VERIFICATION
