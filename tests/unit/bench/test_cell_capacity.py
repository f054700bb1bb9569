"""The formula of a cell's capacity: what was put in comes out, and capacities add up."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.cell_capacity.costs import Costs, Verifier, Window, capacity, fit, redis_us

COSTS = Costs(idle=900.0, iteration=180.0, ring=250.0, row=14.0, node=0.3, request=400.0)
IDLE = Window(seconds=10.0, cpu_us=9_000.0, iterations=0, rings=0, rows=0, nodes=0, requests=0)


def windows(costs: Costs) -> list[Window]:
    made = []
    for running, nodes, output in itertools.product((1, 8, 32), (0, 6, 24), (32, 96)):
        bare = Window(
            seconds=5.0,
            cpu_us=0.0,
            iterations=400.0,
            rings=390.0 if nodes else 0.0,
            rows=400.0 * running,
            nodes=400.0 * running * nodes,
            requests=400.0 * running / output,
        )
        made.append(Window(**{**as_dict(bare), "cpu_us": costs.of(bare)}))
    return made


def as_dict(window: Window) -> dict[str, float]:
    return {name: getattr(window, name) for name in Window.__slots__}


def test_costs_that_made_the_windows_are_found_again() -> None:
    found = fit(IDLE, windows(COSTS))
    for name in Costs.__slots__:
        assert getattr(found, name) == pytest.approx(getattr(COSTS, name), rel=1e-6)


def test_no_cost_is_negative() -> None:
    free = Costs(idle=900.0, iteration=180.0, ring=250.0, row=14.0, node=0.0, request=0.0)
    noisy = [
        Window(**{**as_dict(one), "cpu_us": one.cpu_us * (1 + 0.02 * (-1) ** i)})
        for i, one in enumerate(windows(free))
    ]
    found = fit(IDLE, noisy)
    assert min(found.node, found.request, found.row, found.iteration) >= 0


def test_nothing_measured_is_an_error() -> None:
    with pytest.raises(ValueError, match="no windows"):
        fit(IDLE, [])


@given(st.integers(1, 256), st.floats(5, 200), st.floats(0, 32), st.floats(1, 5), st.floats(0.05, 1.0))
def test_a_cell_with_that_many_verifiers_uses_that_share(
    running: int, step_ms: float, nodes: float, tokens: float, share: float
) -> None:
    verifier = Verifier(name="v", running=running, step_ms=step_ms, nodes=nodes, tokens=tokens)
    most = capacity(COSTS, verifier, share)
    assert most.verifiers * redis_us(COSTS, verifier) + COSTS.idle == pytest.approx(share * 1e6)
    assert most.requests_per_s * verifier.output == pytest.approx(most.tokens_per_s)


def test_more_requests_at_a_time_make_a_token_cheaper() -> None:
    few, many = (
        capacity(COSTS, Verifier(name="v", running=n, step_ms=40.0, nodes=8.0, tokens=2.5), 0.5) for n in (1, 64)
    )
    assert many.us_per_token < few.us_per_token
