"""SLO-customized and throughput-optimized token selection (algorithm 2, steps 2 and 3), vectorised.

Pure numpy. Both phases take a row's nodes in descending path probability, so what a row ends up with is always a
prefix of its ranking; the work is to find how long each prefix is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.selector.ranking import Candidates, Float64, Int64, Ranking, rank
from shared.messages import SLO_PHASE, THROUGHPUT_PHASE

ROOT_GAIN = 1.0  # the root's own token always comes out


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Selection:
    """Chosen nodes, row after row, each row in selection order: any prefix of a row is closed under ancestors.

    `offsets` int32 [rows + 1]; `nodes` int64 [chosen] index the candidates' flat columns; `parents` int16 [chosen]
    count within the row's chosen nodes (−1: root); `phase` uint8 [chosen] is SLO_PHASE or THROUGHPUT_PHASE;
    `late` bool [rows]: even the whole candidate tree accepted would be less than A(r).
    """

    offsets: NDArray[np.int32]
    nodes: Int64
    parents: NDArray[np.int16]
    phase: NDArray[np.uint8]
    late: NDArray[np.bool_]

    @property
    def num_nodes(self) -> int:
        return len(self.nodes)


def select(candidates: Candidates, needed: Float64, *, room: int, max_slo_nodes: int) -> Selection:
    """Choose at most `room` nodes: first those the rows' targets ask for, then the likeliest of all rows.

    `needed` float64 [rows] is A(r), which counts the root's own token. `room` is what the roots, never dropped,
    leave of the budget. `max_slo_nodes` (n_max) bounds what one row takes for its target. Deterministic: among
    equal probabilities the earlier node wins, among equal A(r) the earlier row.
    """
    ranking = rank(candidates)
    slo = _slo_phase(ranking, needed, room, max_slo_nodes)
    taken = slo + _throughput_phase(ranking, slo, room - int(slo.sum()))
    return _assemble(ranking, candidates, slo, taken, late=needed > ranking.depth + ROOT_GAIN)


def take(ranking: Ranking, candidates: Candidates, taken: Int64, *, late: NDArray[np.bool_]) -> Selection:
    """The `taken` [rows] likeliest nodes of each row, all of the throughput phase."""
    return _assemble(ranking, candidates, np.zeros_like(taken), taken, late=late)


def _slo_phase(ranking: Ranking, needed: Float64, room: int, max_slo_nodes: int) -> Int64:
    """int64 [rows]: nodes each row takes until its expected tokens reach min(A(r), d_r + 1)."""
    taken = np.zeros(len(needed), dtype=np.int64)
    sizes = np.minimum(ranking.sizes, min(max_slo_nodes, room))
    short = np.flatnonzero((needed > ROOT_GAIN) & (sizes > 0))
    if not short.size:
        return taken
    short = short[np.argsort(-needed[short], kind="stable")]
    goal = np.minimum(needed[short], ranking.depth[short] + ROOT_GAIN)
    wanted = _nodes_to_reach(ranking, short, goal, sizes[short])
    spent_before = np.cumsum(wanted) - wanted
    taken[short] = np.clip(room - spent_before, 0, wanted)
    return taken


def _nodes_to_reach(ranking: Ranking, rows: Int64, goal: Float64, sizes: Int64) -> Int64:
    """int64 [len(rows)]: the shortest prefix with 1 + Σ f ≥ goal, or `sizes` where none is."""
    column = np.arange(sizes.max())
    places = np.minimum(ranking.offsets[rows, None] + column, len(ranking.keys) - 1)  # past a row's end: unread
    expected = ranking.probabilities(places)  # [len(rows), max(sizes)]
    expected[:, 0] += ROOT_GAIN
    np.cumsum(expected, axis=1, out=expected)
    wanted: Int64 = np.minimum((expected < goal[:, None]).sum(axis=1) + 1, sizes)
    return wanted


def _throughput_phase(ranking: Ranking, slo: Int64, room: int) -> Int64:
    """int64 [rows]: how many of the `room` best nodes left belong to each row."""
    left = ranking.sizes - slo
    if left.sum() <= room:
        return left
    if room == 0:
        return np.zeros_like(slo)
    rows = ranking.rows()
    open_places = np.arange(len(rows)) >= (ranking.offsets[:-1] + slo)[rows]
    keys, rows = ranking.keys[open_places], rows[open_places]
    worst = np.partition(keys, room - 1)[room - 1]
    return np.bincount(rows[keys <= worst], minlength=len(slo))


def _assemble(
    ranking: Ranking, candidates: Candidates, slo: Int64, taken: Int64, *, late: NDArray[np.bool_]
) -> Selection:
    """The first `taken` nodes of every row, with parents as positions within those."""
    offsets = np.concatenate(([0], np.cumsum(taken)))
    place_in_row = np.arange(offsets[-1]) - np.repeat(offsets[:-1], taken)
    nodes = ranking.nodes(np.repeat(ranking.offsets[:-1], taken) + place_in_row)
    new_index = np.full(candidates.num_nodes + 1, -1, dtype=np.int16)  # the root stays −1
    new_index[nodes] = place_in_row
    return Selection(
        offsets=offsets.astype(np.int32),
        nodes=nodes,
        parents=new_index[candidates.forest.up[nodes]],
        phase=np.where(place_in_row < np.repeat(slo, taken), SLO_PHASE, THROUGHPUT_PHASE).astype(np.uint8),
        late=late,
    )
