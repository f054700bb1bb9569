"""Optimality of the selection: algorithm 1 and the vectorised selection against brute force.

Values are Fractions: equal means equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from random import Random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.listings import Nodes, Request, algorithm_1, algorithm_2
from services.selector.selection import select
from tests.effort import examples
from tests.unit.services.selector.oracle import (
    best_value,
    candidates,
    chosen_nodes,
    instances,
    is_closed,
    rounded_f,
    value,
)

NO_LIMIT = 99
Instance = tuple[list[Request], int]  # and the budget
thorough = settings(max_examples=examples(2000), derandomize=True, database=None)
brief = settings(thorough, max_examples=examples(600))


def selected(requests: Sequence[Request], budget: int, *, max_slo_nodes: int = NO_LIMIT) -> list[Nodes]:
    """What the service chooses for a budget that includes the roots."""
    needed = np.array([float(request.needed) for request in requests])
    room = max(budget - len(requests), 0)
    return chosen_nodes(select(candidates(requests), needed, room=room, max_slo_nodes=max_slo_nodes), requests)


def without_targets(requests: Sequence[Request]) -> list[Request]:
    return [Request(parents=request.parents, f=request.f) for request in requests]


@thorough
@given(instances())
def test_algorithm_1_is_optimal_and_invalid_exactly_where_no_trees_meet_the_targets(instance: Instance) -> None:
    requests, budget = instance
    assert value(requests, algorithm_1(requests, budget)) == best_value(requests, budget)


@thorough
@given(instances())
def test_selection_without_targets_is_optimal(instance: Instance) -> None:
    requests, budget = instance
    requests = without_targets(requests)
    assert value(requests, selected(requests, budget)) == best_value(requests, max(budget, len(requests)))


@thorough
@given(instances(on_grid=False, proper=True))
def test_selection_is_optimal_wherever_the_targets_can_be_met(instance: Instance) -> None:
    """Algorithm 2 departs from algorithm 1 only through n_max, or where algorithm 1 has no answer.

    The cap d + 1 on A(r) binds in neither case: a level's probabilities sum to 1 at most.
    """
    requests, budget = instance
    best = best_value(requests, budget)
    if best is not None:
        assert value(requests, selected(requests, budget)) == best


@brief
@given(instances(), st.integers(0, 6))
def test_heaps_choose_the_nodes_that_the_service_chooses(instance: Instance, max_slo_nodes: int) -> None:
    """Node by node and in the same order, given the probabilities as the service rounds them."""
    requests, budget = instance
    rounded = [Request(parents=r.parents, f=rounded_f(r), needed=float(r.needed)) for r in requests]
    chosen = algorithm_2(rounded, budget - len(requests), max_slo_nodes)
    assert chosen == selected(requests, budget, max_slo_nodes=max_slo_nodes)


@brief
@given(instances(), st.integers(0, 6))
def test_choices_keep_the_budget_hold_the_ancestors_and_repeat(instance: Instance, max_slo_nodes: int) -> None:
    requests, budget = instance
    chosen = selected(requests, budget, max_slo_nodes=max_slo_nodes)
    assert_well_formed(requests, chosen, budget)
    assert chosen == selected(requests, budget, max_slo_nodes=max_slo_nodes)
    optimal = algorithm_1(requests, budget)
    if optimal is not None:
        assert_well_formed(requests, optimal, budget)


def assert_well_formed(requests: Sequence[Request], chosen: Sequence[Nodes], budget: int) -> None:
    assert sum(map(len, chosen)) <= max(budget - len(requests), 0)
    for request, nodes in zip(requests, chosen, strict=True):
        assert len(set(nodes)) == len(nodes)
        assert is_closed(request.parents, nodes)


@brief
@given(instances(), st.randoms(use_true_random=False))
def test_permuted_rows_permute_the_choice_where_nothing_ties(instance: Instance, random: Random) -> None:
    """Ties between rows go to the earlier one, so both probabilities and targets must differ between rows."""
    requests, budget = instance
    ties = any(not set(a.f).isdisjoint(b.f) or a.needed == b.needed for a, b in combinations(requests, 2))
    order = random.sample(range(len(requests)), len(requests))
    chosen = selected(requests, budget)
    if not ties:
        assert selected([requests[row] for row in order], budget) == [chosen[row] for row in order]
