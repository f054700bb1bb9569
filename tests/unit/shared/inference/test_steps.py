from __future__ import annotations

from dataclasses import fields

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.inference.plan import ForwardPlan, PlanRow, build_plan, chain_row
from shared.inference.steps import Step, pack, packed_size, unpack
from tests.effort import examples
from tests.unit.shared.inference.token_trees import trees

slots = st.lists(st.integers(0, 2**31 - 1), max_size=9).map(lambda values: np.array(values, np.int32))


@st.composite
def plans(draw: st.DrawFn) -> ForwardPlan:
    """Chains and trees over contexts, some of whose nodes are written already."""
    rows = []
    for _ in range(draw(st.integers(0, 4))):
        context, tree = draw(slots), draw(trees())
        size = len(tree.tokens)
        places = np.arange(size, dtype=np.int32)
        if draw(st.booleans()):
            rows.append(chain_row(context, tree.tokens, places, last_logits=draw(st.booleans())))
            continue
        written = draw(st.integers(0, size - 1))
        rows.append(
            PlanRow(
                context=context,
                tokens=tree.tokens,
                parents=tree.parents,
                slots=places,
                logits=places[written:],
                written=written,
            )
        )
    return build_plan(rows)


@settings(max_examples=examples(200))
@given(plans(), st.lists(st.tuples(slots, slots).map(lambda pair: (pair[0], pair[0][::-1].copy())), max_size=3))
def test_a_step_arrives_as_it_was_sent(plan: ForwardPlan, moves: list[tuple[np.ndarray, np.ndarray]]) -> None:
    packed = pack(Step(moves, plan))
    assert packed.dtype == np.uint8
    assert packed_size(packed[:8]) == len(packed)
    heard = unpack(packed)
    for field in fields(ForwardPlan):
        sent, arrived = getattr(plan, field.name), getattr(heard.plan, field.name)
        assert arrived.dtype == sent.dtype, field.name
        np.testing.assert_array_equal(arrived, sent, field.name)
    assert len(heard.moves) == len(moves)
    for (source, destination), (heard_source, heard_destination) in zip(moves, heard.moves, strict=True):
        np.testing.assert_array_equal(heard_source, source)
        np.testing.assert_array_equal(heard_destination, destination)
