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
from shared.tree import ROOT

ROOT_GAIN = 1.0  # the root's own token always comes out
TAKEN = np.iinfo(np.int64).max  # a key behind all others


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
    slo = ranking.first(_slo_phase(ranking, needed, room, max_slo_nodes))
    places = _throughput_phase(ranking, slo, room - len(slo))
    phase = np.full(len(ranking.keys), THROUGHPUT_PHASE, dtype=np.uint8)
    phase[slo] = SLO_PHASE
    return _assemble(ranking, candidates, places, phase[places], late=needed > ranking.depth + ROOT_GAIN)


def take(ranking: Ranking, candidates: Candidates, taken: Int64, *, late: NDArray[np.bool_]) -> Selection:
    """The `taken` [rows] likeliest nodes of each row, all of the throughput phase."""
    places = ranking.first(taken)
    phase = np.full(len(places), THROUGHPUT_PHASE, dtype=np.uint8)
    return _assemble(ranking, candidates, places, phase, late=late)


def _slo_phase(ranking: Ranking, needed: Float64, room: int, max_slo_nodes: int) -> Int64:
    """int64 [rows]: nodes each row takes until its expected tokens reach min(A(r), d_r + 1)."""
    sizes = np.minimum(ranking.sizes, min(max_slo_nodes, room))
    goal = np.minimum(needed, ranking.depth + ROOT_GAIN)
    too_short = _expected_tokens(ranking, sizes.max(initial=0)) < goal
    wanted = np.minimum(too_short.sum(axis=0), sizes)
    return wanted if wanted.sum() <= room else _neediest_first(wanted, needed, room)


def _expected_tokens(ranking: Ranking, num_prefixes: int) -> Float64:
    """float64 [num_prefixes, rows]: 1 + Σ f of the first 0, 1, 2, ... nodes of each row, anything past its end."""
    last_node = np.arange(-1, num_prefixes - 1)[:, None]
    expected = ranking.probabilities(ranking.offsets[:-1] + last_node)
    expected[:1] = ROOT_GAIN  # the empty prefix
    return np.add.accumulate(expected, out=expected)


def _neediest_first(wanted: Int64, needed: Float64, room: int) -> Int64:
    """int64 [rows]: what each gets of the `room`, served in descending A(r)."""
    order = np.argsort(-needed, kind="stable")
    spent_before = np.cumsum(wanted[order]) - wanted[order]
    granted = np.empty_like(wanted)
    granted[order] = np.clip(room - spent_before, 0, wanted[order])
    return granted


def _throughput_phase(ranking: Ranking, slo: Int64, room: int) -> Int64:
    """int64 [chosen]: the places `slo` and those of the `room` best other nodes, in order."""
    if len(ranking.keys) - len(slo) <= room:
        return np.arange(len(ranking.keys))
    if room == 0:
        return slo
    left = ranking.keys.copy()
    left[slo] = TAKEN
    left.partition(room - 1)
    chosen = ranking.keys <= left[room - 1]
    chosen[slo] = True
    return np.flatnonzero(chosen)


def _assemble(
    ranking: Ranking,
    candidates: Candidates,
    places: Int64,
    phase: NDArray[np.uint8],
    *,
    late: NDArray[np.bool_],
) -> Selection:
    """The nodes at `places`, the first ones of every row, with parents as positions within those."""
    offsets = places.searchsorted(ranking.offsets)
    place_in_row = np.arange(len(places)) - offsets[:-1].repeat(offsets[1:] - offsets[:-1])
    nodes = ranking.nodes(places)
    new_index = np.empty(candidates.num_nodes + 1, dtype=np.int16)  # read where written: ancestors are chosen too
    new_index[nodes], new_index[-1] = place_in_row, ROOT
    return Selection(
        offsets=offsets.astype(np.int32),
        nodes=nodes,
        parents=new_index[candidates.forest.up[nodes]],
        phase=phase,
        late=late,
    )
