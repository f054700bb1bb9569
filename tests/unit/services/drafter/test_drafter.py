"""One round of drafting on a table model: several verifiers, full pools, corrupted rows, cold rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given

from services.drafter.drafter import Drafter
from shared import digest
from shared.inference.blocks import BlockPool
from shared.messages import NEED_CONTEXT, NO_ROOM, DraftRequest, request_ids
from tests.strategies import messages
from tests.table_model import TableModel, TableRunner

VOCAB = 9


def new_drafter(num_blocks: int = 64, **limits: int) -> Drafter:
    runner = TableRunner(TableModel(VOCAB), num_blocks * 4)
    return Drafter(
        runner, BlockPool(num_blocks, 4), **{"max_tokens": 64, "catch_up": 6, "warm_chunk": 5, **limits}
    )


def message(contexts: list[list[int]], base: list[int] | None = None, **changes: Any) -> DraftRequest:
    """Rows 1, 2, … with these contexts."""
    rows = len(contexts)
    bases = base or [0] * rows
    parts = [context[start:] for context, start in zip(contexts, bases, strict=True)]
    digests = [digest.extend(digest.EMPTY, context) for context in contexts]
    values: dict[str, Any] = {
        "verifier": "v.1",
        "drafter": "d.1",
        "ring": 0,
        "step": 1,
        "depth": 3,
        "width": 2,
        "stop_value": 0.0,
        "prefill_tokens": 0,
        "prefill_slack_ms": 0.0,
        "profile": "",
        "overhead_ms": 0.0,
        "calibration": "",
        "request": request_ids([f"{row + 1:032x}" for row in range(rows)]),
        "epoch": np.ones(rows, np.uint64),
        "base": np.array(bases, np.int32),
        "token_offsets": np.cumsum([0, *map(len, parts)], dtype=np.int32),
        "tokens": np.array([token for part in parts for token in part], np.int32),
        "digest": np.frombuffer(b"".join(digests), "V8"),
        "temperature_bucket": np.zeros(rows, np.uint8),
        "tpot_ms": np.full(rows, np.inf, np.float32),
        "elapsed_ms": np.zeros(rows, np.float32),
        "committed": np.ones(rows, np.int32),
        "weight": np.ones(rows, np.float32),
        "max_depth": np.full(rows, 8, np.uint8),
        "warm": np.zeros(rows, np.bool_),
        "schema_offsets": np.zeros(rows + 1, np.int32),
        "schema": np.empty(0, np.uint8),
        "trace_row": np.empty(0, np.int32),
        "traceparent": np.empty(0, "S55"),
    }
    return DraftRequest(**{**values, **changes})


def test_verifiers_and_rings_do_not_touch_each_others_rows() -> None:
    drafter = new_drafter()
    drafter.draft(message([[1, 2]], verifier="v.1"))
    drafter.draft(message([[3, 4]], verifier="v.2"))
    drafter.draft(message([[5, 6]], verifier="v.1", ring=1))
    assert drafter.num_rows == 3
    drafter.draft(message([], verifier="v.1"))  # frees ring 0 of v.1 alone
    assert drafter.num_rows == 2
    known = drafter.draft(message([[3, 4, 1]], base=[2], verifier="v.2"))
    assert known.acknowledged.tolist() == [3]
    drafter.keep({("v.1", 1)})
    assert drafter.num_rows == 1


def test_rows_far_behind_are_warmed_in_chunks_and_drafted_later() -> None:
    drafter = new_drafter()
    context = [1] * 20
    first = drafter.draft(message([context, [2]]))
    assert first.acknowledged.tolist() == [20, 1]
    assert [len(tree) > 0 for tree in first.trees] == [False, True]
    chunks = 0
    while drafter.has_cold_rows:
        drafter.warm()
        chunks += 1
    assert chunks == 3  # 20 tokens, 5 at a time, until at most 6 are left
    again = drafter.draft(message([context, [2]], base=[20, 1]))
    assert len(again.trees[0]) > 0


def test_warm_rows_are_acknowledged_but_get_no_tree() -> None:
    drafter = new_drafter()
    drafted = drafter.draft(message([[1, 2, 3]], warm=np.ones(1, np.bool_)))
    assert drafted.acknowledged.tolist() == [3]
    assert len(drafted.trees[0]) == 0


def test_an_unknown_base_asks_for_the_context() -> None:
    assert new_drafter().draft(message([[1, 2, 3]], base=[2])).acknowledged.tolist() == [NEED_CONTEXT]


@pytest.mark.parametrize(
    ("changes", "answer"),
    [
        ({"digest": np.frombuffer(b"12345678", "V8")}, NEED_CONTEXT),
        ({"tokens": np.array([1, VOCAB, 3], np.int32)}, NO_ROOM),
    ],
)
def test_rows_that_cannot_be_followed_are_forgotten(changes: dict[str, Any], answer: int) -> None:
    drafter = new_drafter()
    assert drafter.draft(message([[1, 2, 3]], **changes)).acknowledged.tolist() == [answer]
    assert drafter.num_rows == 0
    assert not drafter.has_cold_rows


@given(asked=messages(DraftRequest), again=messages(DraftRequest))
def test_any_well_formed_message_gets_an_answer_for_every_row(asked: DraftRequest, again: DraftRequest) -> None:
    drafter = new_drafter()
    for heard in (asked, again, asked):
        drafted = drafter.draft(heard)
        assert len(drafted.trees) == len(drafted.acknowledged) == len(heard.request)
        for _ in range(10):
            drafter.warm()


def test_rows_of_depth_zero_hold_nothing() -> None:
    drafter = new_drafter()
    drafter.draft(message([[1, 2]]))
    drafted = drafter.draft(message([[1, 2]], base=[2], max_depth=np.zeros(1, np.uint8)))
    assert len(drafted.trees[0]) == 0
    assert drafter.num_rows == 0


def test_a_full_pool_says_so_and_serves_the_others() -> None:
    drafter = new_drafter(num_blocks=3)
    drafted = drafter.draft(message([[1] * 6, [2] * 9]))
    assert drafted.acknowledged.tolist() == [6, NO_ROOM]
    assert len(drafted.trees[0]) > 0
    assert drafter.num_rows == 1


def test_a_nearly_full_pool_gives_shallower_trees() -> None:
    drafter = new_drafter(num_blocks=2)
    drafted = drafter.draft(message([[1] * 6], depth=8))
    assert drafted.trees[0].depths().max() == 2  # two of eight slots are left, and the last level needs none


def test_a_stop_value_ends_drafting_early() -> None:
    assert new_drafter().draft(message([[1, 2]], stop_value=10.0)).trees[0].depths().max() == 1


def test_nothing_to_draft_is_an_answer_too() -> None:
    drafted = new_drafter().draft(message([]))
    assert drafted.trees == []
    assert drafted.acknowledged.tolist() == []
