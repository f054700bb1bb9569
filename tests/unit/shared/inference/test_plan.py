from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.inference.plan import ForwardPlan, Int32Array, PlanRow, build_plan, chain_row
from tests.unit.shared.inference.token_trees import Tree, trees


def slots(*values: int) -> Int32Array:
    return np.array(values, dtype=np.int32)


@st.composite
def rows(draw: st.DrawFn) -> tuple[PlanRow, Tree]:
    tree = draw(trees())
    size = len(tree.tokens)
    written = draw(st.integers(0, size - 1))
    row = PlanRow(
        context=np.arange(100, 100 + draw(st.integers(0, 5))),
        tokens=tree.tokens,
        parents=tree.parents,
        slots=np.arange(200, 200 + size),
        logits=np.array(draw(st.lists(st.integers(written, size - 1), max_size=4)), dtype=np.int32),
        written=written,
    )
    return row, tree


def keys_seen(plan: ForwardPlan, row: int) -> list[set[int]]:
    """Slots each fed token of a row attends to, read from the plan alone."""
    fed = slice(plan.row_offsets[row], plan.row_offsets[row + 1])
    keys = [
        *plan.context_slots[plan.context_offsets[row] : plan.context_offsets[row + 1]],
        *plan.slots[fed],
    ]
    num_fed, committed = fed.stop - fed.start, plan.committed[row]
    mask = plan.mask_of(row)
    if mask is None:
        return [{int(key) for key in keys[: len(keys) - num_fed + i + 1]} for i in range(num_fed)]
    return [
        {int(key) for key in keys[:committed]}
        | {int(key) for key, seen in zip(keys[committed:], line, strict=True) if seen}
        for line in mask
    ]


@given(st.lists(rows(), max_size=5))
def test_every_fed_node_sees_its_context_its_ancestors_and_itself(cases: list[tuple[PlanRow, Tree]]) -> None:
    plan = build_plan([row for row, _ in cases])
    for index, (row, tree) in enumerate(cases):
        fed = range(row.written, len(row.tokens))
        expected = [{*map(int, row.context), *(int(row.slots[i]) for i in tree.path(node))} for node in fed]
        assert keys_seen(plan, index) == expected


@given(st.lists(rows(), max_size=5))
def test_positions_are_context_length_plus_depth(cases: list[tuple[PlanRow, Tree]]) -> None:
    plan = build_plan([row for row, _ in cases])
    fed, in_pool = [], []
    for row, tree in cases:
        positions = [len(row.context) + len(tree.path(node)) - 1 for node in range(len(row.tokens))]
        fed += positions[row.written :]
        in_pool += [*range(len(row.context)), *positions[: row.written]]
    assert plan.positions.tolist() == fed
    assert plan.context_positions.tolist() == in_pool


@given(st.lists(rows(), max_size=5))
def test_columns_are_packed_in_row_order(cases: list[tuple[PlanRow, Tree]]) -> None:
    plan = build_plan([row for row, _ in cases])
    assert plan.token_ids.tolist() == [t for row, _ in cases for t in row.tokens[row.written :]]
    assert plan.slots.tolist() == [s for row, _ in cases for s in row.slots[row.written :]]
    for index, (row, _) in enumerate(cases):
        wanted = slice(plan.logit_offsets[index], plan.logit_offsets[index + 1])
        first_fed = plan.row_offsets[index] - row.written
        assert (plan.logit_rows[wanted] - first_fed).tolist() == row.logits.tolist()
    assert {plan.token_ids.dtype, plan.positions.dtype, plan.slots.dtype, plan.logit_rows.dtype} == {
        np.dtype(np.int32)
    }


def test_chains_need_no_mask() -> None:
    plan = build_plan([chain_row(slots(3, 4), np.arange(5000), np.arange(10, 5010), last_logits=True)])
    assert plan.mask_of(0) is None
    assert len(plan.masks) == 0
    assert plan.positions.tolist() == list(range(2, 5002))
    assert plan.logit_rows.tolist() == [4999]


def test_no_rows_make_an_empty_plan() -> None:
    plan = build_plan([])
    assert (plan.num_rows, plan.num_tokens) == (0, 0)


ROW = PlanRow(context=slots(0), tokens=slots(5, 6), parents=slots(-1, 0), slots=slots(1, 2), logits=slots(1))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (replace(ROW, parents=slots(-1, 1)), "precede"),
        (replace(ROW, parents=slots(-2, 0)), "precede"),
        (replace(ROW, tokens=slots(5)), "length"),
        (replace(ROW, slots=slots(1)), "length"),
        (replace(ROW, logits=slots(2)), "not fed"),
        (replace(ROW, logits=slots(0), written=1), "not fed"),
        (replace(ROW, logits=slots(), written=2), "at least one"),
        (replace(ROW, logits=slots(), written=-1), "at least one"),
        (chain_row(slots(0), slots(), slots(), last_logits=False), "at least one"),
    ],
)
def test_malformed_rows_are_refused(row: PlanRow, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        build_plan([ROW, row])


def test_plans_and_blocks_need_no_torch() -> None:
    code = "import sys, shared.inference.plan, shared.inference.blocks; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
