"""Figures, floors and targets: what is derived from the measured values."""

from __future__ import annotations

import math

import pytest

from bench.limits.figures import Figure, Floor, Section, Target, figures_by_name
from bench.limits.floors import Floors

FLOORS = Floors(read_gb_s=20.0, copy_gb_s=10.0, gflop_s=100.0)


def test_a_figure_stands_on_its_floor() -> None:
    figure = Figure(name="a", unit="ms", value=3.0, floor=Floor(name="PING", value=2.0))
    assert figure.ratio == 1.5
    assert figure.is_met is None
    assert Figure(name="a", unit="ms", value=3.0).ratio is None
    assert Figure(name="a", unit="ms", value=3.0, floor=Floor(name="PING", value=0.0)).ratio is None


@pytest.mark.parametrize(
    ("value", "at_least", "met"),
    [(1.0, False, True), (2.0, False, True), (2.1, False, False), (2.0, True, True), (1.9, True, False)],
)
def test_targets_are_judged_by_the_value(value: float, at_least: bool, met: bool) -> None:
    figure = Figure(name="a", unit="ms", value=value, target=Target(limit=2.0, at_least=at_least))
    assert figure.is_met is met
    assert figure.as_json()["met"] is met


def test_what_was_not_measured_meets_nothing() -> None:
    assert not Target(limit=1.0).is_met_by(math.nan)
    assert not Target(limit=1.0, at_least=True).is_met_by(math.nan)


def test_json_holds_what_there_is() -> None:
    bare = Figure(name="a", unit="µs", value=1.0)
    assert bare.as_json() == {"name": "a", "unit": "µs", "value": 1.0}
    whole = Figure(
        name="a",
        unit="µs",
        value=4.0,
        p99=9.0,
        floor=Floor(name="copy", value=2.0),
        target=Target(limit=5.0, goal=3.0),
    )
    assert whole.as_json() == {
        "name": "a",
        "unit": "µs",
        "value": 4.0,
        "p99": 9.0,
        "floor": 2.0,
        "floor_is": "copy",
        "ratio": 2.0,
        "target": 5.0,
        "at_least": False,
        "met": True,
        "goal": 3.0,
    }
    section = Section(name="s", placement="core 0", figures=[whole], notes=["n"]).as_json()
    assert section["notes"] == ["n"]
    assert figures_by_name({"s": section}) == {("s", "a"): whole.as_json()}


def test_floors_of_bytes_and_products() -> None:
    assert FLOORS.read_ms(40e6) == pytest.approx(2.0)
    assert FLOORS.copy_us(20e3) == pytest.approx(2.0)
    assert FLOORS.forward_ms(weight_bytes=40e6, flops=1e8) == pytest.approx(2.0)  # reading takes longer
    assert FLOORS.forward_ms(weight_bytes=40e6, flops=1e9) == pytest.approx(10.0)  # computing does
