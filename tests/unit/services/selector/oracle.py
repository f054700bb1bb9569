"""Brute force over all connected subtrees of small batches, in exact arithmetic, and a strategy for instances."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from bench.listings import Nodes, Probability, Request
from services.selector.ranking import Candidates
from services.selector.selection import Selection

MAX_NODES = 9  # of a batch: brute force then looks at 2⁹ choices at most
DEPTH = 4
SIXTEENTHS = Fraction(1, 16)
COARSE, FINE = (16, 8, 4), tuple(range(1, 17))
HALF_STEP = SIXTEENTHS**DEPTH / 2


def best_value(requests: Sequence[Request], budget: int) -> Fraction | None:
    """Largest Σ f (roots count 1 each) of trees that keep the budget and every target; None where none do."""
    options = [_on_target(request) for request in requests]
    totals = [
        sum((worth for _, worth in choice), start=Fraction(0))
        for choice in itertools.product(*options)
        if sum(size for size, _ in choice) <= budget
    ]
    return max(totals, default=None)


def _on_target(request: Request) -> list[tuple[int, Fraction]]:
    """(tokens with the root, expected tokens) of every tree that meets the request's target."""
    worths = [(len(nodes) + 1, _worth(request, nodes)) for nodes in closed_subsets(request.parents)]
    return [(size, worth) for size, worth in worths if worth >= request.needed]


def closed_subsets(parents: Sequence[int]) -> list[tuple[int, ...]]:
    """Every set of nodes that holds the parents of its members."""
    return [nodes for nodes in _subsets(len(parents)) if is_closed(parents, nodes)]


def is_closed(parents: Sequence[int], nodes: Sequence[int]) -> bool:
    """Whether the ancestors of `nodes` are all among them."""
    return all(parents[node] in (-1, *nodes) for node in nodes)


def value(requests: Sequence[Request], chosen: Sequence[Nodes] | None) -> Fraction | None:
    """What a choice is worth to `best_value`; None stays None."""
    if chosen is None:
        return None
    worths = [_worth(request, nodes) for request, nodes in zip(requests, chosen, strict=True)]
    return sum(worths, start=Fraction(0))


def _worth(request: Request, nodes: Sequence[int]) -> Fraction:
    return sum((Fraction(request.f[node]) for node in nodes), start=Fraction(1))


def candidates(requests: Sequence[Request]) -> Candidates:
    """The batch as the selector sees it.

    Exact order survives float32: two different multiples of 16⁻⁴ differ by 1.5e-5 in their logarithms or more,
    where float32 resolves 1e-6, and equal ones have equal logarithms.
    """
    return Candidates(
        offsets=np.cumsum([0, *(len(request.f) for request in requests)]).astype(np.int32),
        parents=np.array([parent for request in requests for parent in request.parents], np.int16),
        logprobs=_logprobs([f for request in requests for f in request.f]),
    )


def rounded_f(request: Request) -> list[float]:
    """The request's path probabilities after their way through float32 logarithms."""
    rounded: list[float] = np.exp(_logprobs(request.f).astype(np.float64)).tolist()
    return rounded


def _logprobs(f: Sequence[Probability]) -> NDArray[np.float32]:
    return np.array([math.log(x) for x in f], np.float32)


def chosen_nodes(selection: Selection, requests: Sequence[Request]) -> list[Nodes]:
    """Nodes of each row, counted within the row, in selection order."""
    starts = itertools.accumulate((len(request.f) for request in requests), initial=0)
    cuts = itertools.pairwise(selection.offsets.tolist())
    return [(selection.nodes[a:b] - start).tolist() for start, (a, b) in zip(starts, cuts, strict=False)]


@st.composite
def instances(draw: st.DrawFn, *, on_grid: bool = True, proper: bool = False) -> tuple[list[Request], int]:
    """1 to 3 requests and a budget around what their targets take.

    Trees have up to MAX_NODES nodes in all, are DEPTH levels deep, and have conditional probabilities in 16ths.
    Half of the batches know three probabilities only: ties abound. Most targets are sums of some best nodes, so
    met exactly; with `on_grid` false a little less, where a rounded sum decides like an exact one. With `proper`,
    siblings sum to 1 at most, as a draft model's do.
    """
    steps = draw(st.sampled_from([COARSE, FINE]))
    num_rows = draw(st.integers(1, 3))
    requests, budget = [], num_rows + draw(st.integers(-2, 3))
    for _ in range(num_rows):
        parents, f = draw(_trees(MAX_NODES // num_rows, steps, proper=proper))
        num_wanted = draw(st.integers(0, len(f)))
        excess = draw(st.sampled_from([0, 0, 0, 0, SIXTEENTHS, 1])) - (0 if on_grid else HALF_STEP)
        reached = sum(sorted(f, reverse=True)[:num_wanted], start=Fraction(1))
        requests.append(Request(parents=parents, f=f, needed=reached + excess))
        budget += num_wanted
    return requests, max(budget, 0)


@st.composite
def _trees(
    draw: st.DrawFn, max_nodes: int, steps: Sequence[int], *, proper: bool
) -> tuple[list[int], list[Fraction]]:
    parents: list[int] = []
    f: list[Fraction] = []
    depths, left = {-1: 0}, {-1: 16}  # left: 16ths that further children of a node may have
    for node in range(draw(st.integers(0, max_nodes))):
        open_nodes = [v for v in depths if depths[v] < DEPTH and left[v] >= min(steps)]
        if not open_nodes:
            break
        parent = draw(st.sampled_from(open_nodes))
        step = draw(st.sampled_from([step for step in steps if step <= left[parent]]))
        left[parent] -= step if proper else 0
        parents.append(parent)
        f.append((Fraction(1) if parent < 0 else f[parent]) * step * SIXTEENTHS)
        depths[node], left[node] = depths[parent] + 1, 16
    return parents, f


def _subsets(size: int) -> Iterator[tuple[int, ...]]:
    return itertools.chain.from_iterable(itertools.combinations(range(size), length) for length in range(size + 1))
