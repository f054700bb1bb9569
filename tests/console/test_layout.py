"""Where the nodes of token trees are drawn: for any tree, no two in one place and no edge across another."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.console.conftest import Opener

Json = dict[str, Any]
Place = tuple[int, int]
LAYOUT = "async ([nodes, own]) => (await import('/console/layout.js')).layout(nodes, own)"


def tree(numbers: random.Random, size: int) -> list[Json]:
    """Parents before children; what is accepted is a path from the root."""
    nodes: list[Json] = []
    end = -1
    for index in range(size):
        parent = numbers.randrange(-1, index)
        is_accepted = parent == end and numbers.random() < 0.6
        end = index if is_accepted else end
        nodes.append({"parent": parent, "p": numbers.random(), "accepted": is_accepted, "text": "x"})
    return nodes


@pytest.mark.parametrize("seed", range(3))
def test_every_tree_can_be_drawn(opened: Opener, seed: int) -> None:
    numbers = random.Random(seed)
    tab = opened()
    tab.open("playground")
    for size in range(30):
        nodes, own = tree(numbers, size), {"text": "own"} if size % 2 else None
        found = tab.page.evaluate(LAYOUT, [nodes, own])
        check(found, len(nodes) + (own is not None))


def check(found: Json, count: int) -> None:
    places: dict[int, Place] = {-1: (0, 0)}
    places |= {one["index"]: (one["depth"], one["row"]) for one in found["placed"]}
    assert len(set(places.values())) == len(places) == count + 1
    gaps: dict[int, list[Place]] = {}
    for one in found["placed"]:
        assert one["row"] < found["rows"]
        assert one["depth"] <= found["depth"]
        is_line = one["node"].get("isOwn") or one["node"]["accepted"]
        assert not is_line or one["row"] == 0
        gaps.setdefault(one["depth"], []).append((places[one["parent"]][1], one["row"]))
    for edges in gaps.values():
        assert all((a - c) * (b - d) >= 0 for a, b in edges for c, d in edges)
