"""Algorithm 2, steps 2 and 3, as the paper's listing reads: plain Python, one node at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Row:
    """One request: its tree as lists, A(r), and what has been selected so far as (node, is in SLO phase)."""

    parents: list[int]
    logprobs: list[float]
    needed: float
    chosen: list[tuple[int, bool]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.costs: list[float] = []
        self.depths: list[int] = []
        for parent, logprob in zip(self.parents, self.logprobs, strict=True):
            cost = math.inf if math.isnan(logprob) else max(0.0, -logprob)
            self.costs.append(cost if parent < 0 else max(cost, self.costs[parent]))
            self.depths.append(1 if parent < 0 else self.depths[parent] + 1)

    @property
    def depth(self) -> int:
        return max((d for d, c in zip(self.depths, self.costs, strict=True) if c < math.inf), default=0)

    def best_left(self) -> tuple[float, int] | None:
        """(−log f, node) of the likeliest usable node not chosen yet."""
        taken = {node for node, _ in self.chosen}
        left = [(c, v) for v, c in enumerate(self.costs) if v not in taken and c < math.inf]
        return min(left, default=None)


def select(rows: list[Row], room: int, max_slo_nodes: int) -> list[list[tuple[int, bool]]]:
    """Per row the chosen (node, chosen in the SLO phase), in selection order."""
    for row in sorted(rows, key=lambda row: -row.needed):
        num_accepted, goal = 1.0, min(row.needed, row.depth + 1)
        while num_accepted < goal and len(row.chosen) < max_slo_nodes and room > 0:
            best = row.best_left()
            if best is None:
                break
            row.chosen.append((best[1], True))
            num_accepted += float(np.exp(-best[0]))
            room -= 1
    while room > 0:
        bests = [(best[0], index, best[1]) for index, row in enumerate(rows) if (best := row.best_left())]
        if not bests:
            break
        _, index, node = min(bests)
        rows[index].chosen.append((node, False))
        room -= 1
    return [row.chosen for row in rows]
