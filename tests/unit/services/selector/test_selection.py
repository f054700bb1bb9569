"""Token selection (services/selector/selection.py, ranking.py) against the listing, by property."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.selector.ranking import Candidates, rank
from services.selector.selection import Selection, select
from shared.messages import SLO_PHASE, THROUGHPUT_PHASE
from tests.effort import examples
from tests.unit.services.selector import reference

Tree = tuple[list[int], list[float]]

# few distinct values: most batches hold ties within and between rows, some nodes that no draft model would send
STEPS = [0.0, -0.25, -0.5, -0.5, -1.0, -2.0]
ODD = [-math.inf, math.nan, math.inf, 0.5, -0.0]


@st.composite
def trees(draw: st.DrawFn, max_nodes: int = 12) -> Tree:
    parents: list[int] = []
    logprobs: list[float] = []
    odd = draw(st.booleans()) and draw(st.booleans())
    for node in range(draw(st.integers(0, max_nodes))):
        parent = draw(st.integers(-1, node - 1))
        step = draw(st.sampled_from(STEPS + ODD) if odd else st.sampled_from(STEPS) | st.floats(-3.0, 0.0))
        parents.append(parent)
        logprobs.append(float(np.float32((0.0 if parent < 0 else logprobs[parent]) + step)))
    return parents, logprobs


needs = st.sampled_from([0.0, 1.0, 1.5, 1.5, 2.0, 3.0, 99.0, math.inf]) | st.floats(0.0, 6.0)
batches = st.lists(st.tuples(trees(), needs), min_size=0, max_size=6)


def columns(batch: list[Tree]) -> Candidates:
    return Candidates(
        offsets=np.cumsum([0, *(len(parents) for parents, _ in batch)]).astype(np.int32),
        parents=np.array([p for parents, _ in batch for p in parents], dtype=np.int16),
        logprobs=np.array([x for _, logprobs in batch for x in logprobs], dtype=np.float32),
    )


def run(batch: list[tuple[Tree, float]], room: int, max_slo_nodes: int) -> Selection:
    needed = np.array([need for _, need in batch])
    return select(columns([tree for tree, _ in batch]), needed, room=room, max_slo_nodes=max_slo_nodes)


def per_row(selection: Selection, batch: list[tuple[Tree, float]]) -> list[list[tuple[int, bool]]]:
    """Chosen (node within the row, is SLO phase) of each row, in selection order."""
    starts = np.cumsum([0, *(len(tree[0]) for tree, _ in batch)])
    cuts = itertools.pairwise(selection.offsets.tolist())
    return [
        [
            (int(node - starts[row]), bool(phase == SLO_PHASE))
            for node, phase in zip(selection.nodes[a:b], selection.phase[a:b], strict=True)
        ]
        for row, (a, b) in enumerate(cuts)
    ]


@settings(max_examples=examples(300))
@given(batches, st.integers(0, 30), st.integers(0, 8))
def test_selection_equals_the_listing(batch: list[tuple[Tree, float]], room: int, max_slo_nodes: int) -> None:
    expected = reference.select([reference.Row(*tree, need) for tree, need in batch], room, max_slo_nodes)
    assert per_row(run(batch, room, max_slo_nodes), batch) == expected


def test_selection_equals_the_listing_on_thousands_of_beam_shaped_batches() -> None:
    rng = np.random.default_rng(7)
    for _ in range(3000):
        batch = [
            (_random_tree(rng), float(rng.choice([0.0, rng.uniform(0, 6)]))) for _ in range(rng.integers(1, 7))
        ]
        room, max_slo_nodes = int(rng.integers(0, 40)), int(rng.integers(0, 10))
        expected = reference.select([reference.Row(*tree, need) for tree, need in batch], room, max_slo_nodes)
        assert per_row(run(batch, room, max_slo_nodes), batch) == expected


def _random_tree(rng: np.random.Generator) -> Tree:
    """A beam-searched shape in level order; coarse probabilities in half of the trees, so ties are common."""
    parents: list[int] = []
    logprobs: list[np.float32] = []
    level, coarse = [-1], bool(rng.integers(2))
    for _ in range(rng.integers(0, 5)):
        start = len(parents)
        for _ in range(rng.integers(1, 4)):
            parent = int(rng.choice(level))
            step = rng.choice([0.0, -0.5, -1.0]) if coarse else np.log(rng.uniform(0.05, 1.0))
            parents.append(parent)
            logprobs.append(np.float32(step + (0.0 if parent < 0 else logprobs[parent])))
        level = list(range(start, len(parents)))
    return parents, [float(x) for x in logprobs]


@given(batches, st.integers(0, 30), st.integers(0, 8))
def test_every_prefix_of_a_row_is_closed_under_ancestors_and_within_room(
    batch: list[tuple[Tree, float]], room: int, max_slo_nodes: int
) -> None:
    selection = run(batch, room, max_slo_nodes)
    usable = sum(math.isfinite(cost) for tree, need in batch for cost in reference.Row(*tree, need).costs)
    assert selection.num_nodes == min(room, usable)
    rows = per_row(selection, batch)
    for (tree, _), chosen, cut in zip(batch, rows, itertools.pairwise(selection.offsets.tolist()), strict=True):
        place = {node: index for index, (node, _) in enumerate(chosen)} | {-1: -1}
        parents = selection.parents[slice(*cut)].tolist()
        assert parents == [place[tree[0][node]] for node, _ in chosen]
        assert all(-1 <= parent < index for index, parent in enumerate(parents))
        phases = [is_slo for _, is_slo in chosen]
        assert phases == sorted(phases, reverse=True)
        assert sum(phases) <= max_slo_nodes


@given(batches, st.integers(0, 8))
def test_throughput_phase_alone_is_optimal(batch: list[tuple[Tree, float]], room: int) -> None:
    """Against all connected subtrees of tiny batches: no other choice expects more accepted tokens."""
    batch = [((parents[:4], logprobs[:4]), 0.0) for (parents, logprobs), _ in batch[:2]]
    selection = run(batch, room, 0)
    rows = [reference.Row(*tree, 0.0) for tree, _ in batch]
    gains = [[math.exp(-cost) for cost in row.costs] for row in rows]
    got = sum(gains[r][v] for r, chosen in enumerate(per_row(selection, batch)) for v, _ in chosen)
    best = 0.0
    for choice in itertools.product(*(_connected(row.parents) for row in rows)):
        if sum(map(len, choice)) <= room:
            best = max(best, sum(gains[r][v] for r, nodes in enumerate(choice) for v in nodes))
    assert got == pytest.approx(best)


def _connected(parents: list[int]) -> list[tuple[int, ...]]:
    subsets = itertools.chain.from_iterable(
        itertools.combinations(range(len(parents)), size) for size in range(len(parents) + 1)
    )
    return [s for s in subsets if all(parents[v] in (-1, *s) for v in s)]


@given(batches, st.integers(0, 30), st.integers(0, 8))
def test_late_rows_need_more_than_their_whole_tree(
    batch: list[tuple[Tree, float]], room: int, max_slo_nodes: int
) -> None:
    late = run(batch, room, max_slo_nodes).late.tolist()
    assert late == [need > reference.Row(*tree, need).depth + 1 for tree, need in batch]


def test_worked_example_of_figure_5() -> None:
    parents = [-1, -1, 0, 0, 2, 2]
    r0 = np.log([0.7, 0.2, 0.42, 0.21, 0.294, 0.126]).tolist()
    r1 = np.log([0.5, 0.4, 0.35, 0.24, 0.14, 0.14]).tolist()
    batch = [((parents, r0), 1.6), ((parents, r1), 1.8)]  # the figure leaves out the root's own 1.0
    assert per_row(run(batch, 8 - 2, max_slo_nodes=5), batch) == [
        [(0, True), (2, False), (4, False)],
        [(0, True), (1, True), (2, False)],
    ]


def test_slo_phase_serves_the_largest_need_first_and_the_earlier_row_on_ties() -> None:
    tree: Tree = ([-1, 0], [-0.5, -1.0])
    assert [len(row) for row in per_row(run([(tree, 2.0), (tree, 2.5)], 2, 9), [(tree, 0)] * 2)] == [0, 2]
    assert [len(row) for row in per_row(run([(tree, 2.5), (tree, 2.5)], 2, 9), [(tree, 0)] * 2)] == [2, 0]


def test_goal_is_capped_by_the_rows_own_depth() -> None:
    """A sure chain gives depth + 1 tokens; a need beyond that must not take the unlikely rest in the SLO phase."""
    tree: Tree = ([-1, 0, -1, -1], [0.0, 0.0, -5.0, -5.0])
    selection = run([(tree, 50.0)], 4, 9)
    assert selection.nodes.tolist() == [0, 1, 2, 3]
    assert selection.phase.tolist() == [SLO_PHASE] * 2 + [THROUGHPUT_PHASE] * 2


def test_no_room_selects_nothing() -> None:
    selection = run([(([-1], [-0.1]), 5.0)] * 3, 0, 9)
    assert selection.num_nodes == 0
    assert selection.offsets.tolist() == [0, 0, 0, 0]


def test_child_that_seems_likelier_than_its_parent_comes_after_it() -> None:
    selection = run([(([-1, 0, 1], [-3.0, -2.9, 4.0]), 0.0), (([-1], [-2.95]), 0.0)], 2, 9)
    assert selection.nodes.tolist() == [0, 3]


def test_nodes_below_an_impossible_one_are_never_selected() -> None:
    tree: Tree = ([-1, 0, 1, -1], [-math.inf, -0.1, -0.1, math.nan])
    selection = run([(tree, 9.0)], 9, 9)
    assert selection.num_nodes == 0
    assert selection.late.tolist() == [True]


def test_batch_too_large_for_the_sort_key_is_refused() -> None:
    huge = Candidates(
        offsets=np.linspace(0, 1 << 17, (1 << 15) + 1).astype(np.int32),
        parents=np.full(1 << 17, -1, dtype=np.int16),
        logprobs=np.zeros(1 << 17, dtype=np.float32),
    )
    with pytest.raises(ValueError, match="sort key"):
        rank(huge)


@given(trees(max_nodes=40))
def test_depths_count_the_way_to_the_root(tree: Tree) -> None:
    assert columns([tree]).forest.depths.tolist() == reference.Row(*tree, 0.0).depths


def test_equal_needs_are_served_in_row_order_in_a_large_batch() -> None:
    """Large enough for a sort that is not stable to show."""
    tree: Tree = ([-1, 0], [-0.5, -1.0])
    batch = [(tree, float(need)) for need in np.random.default_rng(3).choice([1.5, 1.9, 5.0], 300)]
    expected = reference.select([reference.Row(*tree, need) for tree, need in batch], 150, 1)
    assert per_row(run(batch, 150, 1), batch) == expected
