"""Who may be speculated on (services/verifier/governor.py)."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

from services.verifier.generation import Generation
from services.verifier.governor import NO_DRAFTER, OPERATOR, RING, Governor, Status
from services.verifier.watch import COLLAPSE_TREES, Reason
from shared.modes import CELL, Mode, Order, Orders


@dataclass
class Row:
    request: Any
    is_barred: bool = False


def rows(*named: tuple[str, str]) -> list[Generation]:
    return cast(
        list[Generation], [Row(SimpleNamespace(tenant=tenant, slo_class=slo_class)) for tenant, slo_class in named]
    )


def barred(governor: Governor, generations: list[Generation]) -> list[bool]:
    governor.rule(generations)
    return [generation.is_barred for generation in generations]


def collapsed(governor: Governor) -> None:
    for _ in range(COLLAPSE_TREES):
        governor.watch.verified(2.0, 0)
    assert governor.watch.turn(0.0)


def test_orders_bar_a_tenant_a_class_or_everybody_and_are_withdrawn() -> None:
    governor, generations = Governor(), rows(("acme", "coding"), ("zeta", "coding"), ("zeta", "exact"))
    full = Order(mode=Mode.FULL_VERIFICATION)
    assert barred(governor, generations) == [False, False, False]
    governor.orders = Orders({"tenant:acme": full, "class:exact": full})
    assert barred(governor, generations) == [True, False, True]
    governor.orders = Orders({CELL: full})
    assert barred(governor, generations) == [True, True, True]
    governor.orders = Orders()
    assert barred(governor, generations) == [False, False, False]


def test_the_watch_bars_those_that_no_order_keeps_speculative() -> None:
    governor, generations = Governor(), rows(("acme", "coding"), ("zeta", "coding"))
    collapsed(governor)
    governor.orders = Orders({"tenant:acme": Order(mode=Mode.SPECULATIVE)})
    assert barred(governor, generations) == [False, True]


def test_a_cautious_watch_limits_the_depth_unless_speculation_is_ordered() -> None:
    governor = Governor()
    assert governor.depth(6) == 6
    collapsed(governor)
    governor.watch.turn(1e6)  # a trial
    assert governor.depth(6) == governor.watch.max_depth
    governor.orders = Orders({CELL: Order(mode=Mode.SPECULATIVE)})
    assert governor.depth(6) == 6


def test_the_status_names_the_first_cause() -> None:
    governor = Governor()
    assert governor.status(has_drafter=True, is_open=False) == Status(Mode.SPECULATIVE)
    assert governor.status(has_drafter=True, is_open=True) == Status(Mode.FULL_VERIFICATION, RING)
    assert governor.status(has_drafter=False, is_open=True) == Status(Mode.FULL_VERIFICATION, NO_DRAFTER)
    collapsed(governor)
    assert governor.status(has_drafter=True, is_open=False) == Status(Mode.FULL_VERIFICATION, Reason.COLLAPSE)
    governor.orders = Orders({CELL: Order(mode=Mode.SPECULATIVE)})
    assert governor.status(has_drafter=True, is_open=False).mode is Mode.SPECULATIVE
    governor.orders = Orders({CELL: Order(mode=Mode.FULL_VERIFICATION)})
    assert governor.status(has_drafter=True, is_open=False) == Status(Mode.FULL_VERIFICATION, OPERATOR)
