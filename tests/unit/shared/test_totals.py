"""Counters that are summed up in the process."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from opentelemetry.metrics import CallbackOptions

from shared.totals import Totals


def observed(totals: Totals) -> dict[tuple[tuple[str, object], ...], float]:
    told = totals.observe(CallbackOptions())
    return {tuple((one.attributes or {}).items()): one.value for one in told}


def test_each_series_has_its_sum_whatever_the_order_of_its_labels() -> None:
    totals = Totals("t")
    totals.add(0, {})
    totals.add(2, {"a": "1", "b": "2"})
    totals.add(3, {"b": "2", "a": "1"})
    assert observed(totals) == {(): 0, (("a", "1"), ("b", "2")): 5}


def test_no_addition_of_several_threads_is_lost() -> None:
    totals = Totals("t")
    with ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            pool.submit(lambda: [totals.add(1, {"a": "1"}) for _ in range(5_000)])
    assert observed(totals) == {(("a", "1"),): 20_000}


@pytest.mark.parametrize("amount", [-1, float("nan"), float("inf")])
def test_a_counter_does_not_fall(amount: float, caplog: pytest.LogCaptureFixture) -> None:
    totals = Totals("jobs")
    totals.add(1, {})
    totals.add(amount, {})
    assert observed(totals) == {(): 1}
    assert "jobs cannot grow" in caplog.text
