"""Algorithms 1 and 2 of arXiv 2501.12162 as they are listed: plain Python with heaps, one node at a time.

What the vectorised selection is compared with. Probabilities may be floats or Fractions; with Fractions every
sum and comparison here is exact.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

Probability = Fraction | float
Nodes = list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A token tree and what its request needs.

    `parents` count within the tree, −1 is the root, and come before their children. `f` are path probabilities,
    never above the parent's. `needed` is A(r), which counts the root's own token.
    """

    parents: Sequence[int]
    f: Sequence[Probability]
    needed: Probability = 0.0

    def depth(self) -> int:
        """Levels below the root."""
        depths: list[int] = []
        for parent in self.parents:
            depths.append(1 if parent < 0 else depths[parent] + 1)
        return max(depths, default=0)


class Growth:
    """A tree grown from its root by its likeliest node at a time; among equals the earlier node goes first."""

    def __init__(self, request: Request) -> None:
        self._f = request.f
        self._children: list[Nodes] = [[] for _ in range(len(request.f) + 1)]  # the root's are the last
        for node, parent in enumerate(request.parents):
            self._children[parent].append(node)
        self.fringe: list[tuple[Probability, int]] = []  # heap of (−f, node)
        self.expected: Probability = 1  # the root's own token always comes out
        self.nodes: Nodes = []
        self._open(-1)

    def add(self) -> None:
        """Takes the likeliest node of the fringe, which must not be empty."""
        loss, node = heapq.heappop(self.fringe)
        self.expected -= loss
        self.nodes.append(node)
        self._open(node)

    def _open(self, parent: int) -> None:
        for child in self._children[parent]:
            heapq.heappush(self.fringe, (-self._f[child], child))


def algorithm_1(requests: Sequence[Request], budget: int) -> list[Nodes] | None:
    """The optimal trees for `budget` tokens, roots included: chosen nodes of each request; None is INVALID."""
    growths = [Growth(request) for request in requests]
    room = budget - len(requests)
    for request, growth in zip(requests, growths, strict=True):
        while growth.expected < request.needed and growth.fringe and room > 0:
            growth.add()
            room -= 1
        if growth.expected < request.needed:
            return None
    if room < 0:
        return None
    _spend(growths, room)
    return [growth.nodes for growth in growths]


def algorithm_2(requests: Sequence[Request], room: int, max_slo_nodes: int) -> list[Nodes]:
    """SLO-customized, then throughput-optimized selection of `room` nodes beside the roots: nodes per request."""
    growths = [Growth(request) for request in requests]
    for row in sorted(range(len(requests)), key=lambda row: -requests[row].needed):
        request, growth = requests[row], growths[row]
        if request.needed <= 1:
            break
        goal = min(request.needed, request.depth() + 1)
        while growth.expected < goal and len(growth.nodes) < max_slo_nodes and growth.fringe and room > 0:
            growth.add()
            room -= 1
    _spend(growths, room)
    return [growth.nodes for growth in growths]


def expected_tokens(requests: Sequence[Request], chosen: Sequence[Sequence[int]]) -> Iterator[Probability]:
    """Per request 1 + Σ f over its chosen nodes."""
    for request, nodes in zip(requests, chosen, strict=True):
        yield sum((request.f[node] for node in nodes), start=1)


def _spend(growths: Sequence[Growth], room: int) -> None:
    """The `room` likeliest nodes left, of all requests; among equals the earlier request goes first."""
    order = [(growth.fringe[0][0], row) for row, growth in enumerate(growths) if growth.fringe]
    heapq.heapify(order)
    while room > 0 and order:
        _, row = order[0]
        growths[row].add()
        room -= 1
        if growths[row].fringe:
            heapq.heapreplace(order, (growths[row].fringe[0][0], row))
        else:
            heapq.heappop(order)
