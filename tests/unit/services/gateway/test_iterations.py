"""Halves of iterations, as they stand in the stream, become the iterations that people look at."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from services.gateway.iterations import joined
from tests.unit.services.gateway.test_inspection import STEP, TREE


def spelled(token: int) -> str:
    return f"<{token}>"


def told(*messages: Any) -> tuple[list[dict[str, Any]], str | None]:
    return joined([(f"{place}-0", message) for place, message in enumerate(messages, start=1)], spelled)


def at(position: int, step: int = 1, **changes: Any) -> Any:
    return dataclasses.replace(STEP, position=position, step=step, **changes)


def test_a_tree_without_its_step_is_no_iteration_yet() -> None:
    assert told(TREE) == ([], None)
    iterations, cursor = told(TREE, STEP, dataclasses.replace(TREE, position=7, step=2))
    assert ([one["position"] for one in iterations], cursor) == ([5], "2-0")


def test_the_verifiers_half_alone_tells_the_path_and_the_own_token() -> None:
    [iteration], _ = told(
        dataclasses.replace(TREE, step=2),  # of a reply that came too late
        at(
            5,
            tokens=np.array([6, 7, 8], np.int32),
            path=np.array([3, 9], np.int16),
            logprobs=np.zeros(2, np.float32),
        ),
    )
    assert [(node["parent"], node["token"], node["accepted"]) for node in iteration["nodes"]] == [
        (-1, 6, True),
        (0, 7, True),
    ]
    assert iteration["own"] == {"token": 8, "text": "<8>"}
    assert (iteration["need"], iteration["budget"], iteration["predicted_ms"]) == (None, 0, 0.0)


def test_a_stop_on_a_drafted_token_leaves_no_own_one() -> None:
    [iteration], _ = told(TREE, at(5, tokens=np.array([6], np.int32)))
    assert iteration["own"] is None
    assert [node["accepted"] for node in iteration["nodes"]] == [True, False, False]


def test_a_path_beyond_what_the_selector_told_is_left_out() -> None:
    [iteration], _ = told(TREE, at(5, path=np.array([9], np.int16)))
    assert not any(node["accepted"] for node in iteration["nodes"])


def test_what_another_verifier_drew_again_stands_once() -> None:
    iterations, cursor = told(at(5), at(7, 2), at(9, 3), at(7, 1, mode="full_verification"), at(8, 2))
    assert [(one["position"], one["mode"]) for one in iterations] == [
        (5, "speculative"),
        (7, "full_verification"),
        (8, "speculative"),
    ]
    assert cursor == "5-0"


def test_no_number_is_beyond_what_json_holds() -> None:
    odd = dataclasses.replace(
        TREE, need=float("inf"), draft_ms=float("inf"), probability=np.array([np.inf, -1, 0.5], np.float32)
    )
    [iteration], _ = told(odd, STEP)
    assert (iteration["need"], iteration["draft_ms"]) == (None, None)
    assert [node["p"] for node in iteration["nodes"]] == [1.0, 0.0, 0.5]
