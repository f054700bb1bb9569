"""The gain of speculation out of what the verifier tells of each request."""

from __future__ import annotations

import pytest

from bench.limits.gain import Pair, parts, served

OFF = {
    "num_steps": 101.0,
    "num_spec_steps": 0.0,
    "num_draft_tokens": 0.0,
    "span_ms": 2300.0,
    "forward_ms": 2000.0,
    "ring_ms": 0.0,
    "commit_ms": 100.0,
    "bare_not_wanted": 100.0,
    "bare_first_step": 1.0,
}
ON = {
    "num_steps": 41.0,
    "num_spec_steps": 30.0,
    "num_draft_tokens": 120.0,
    "span_ms": 1140.0,
    "forward_ms": 860.0,  # 10 x 20 + 30 x 22
    "ring_ms": 150.0,
    "commit_ms": 40.0,
    "bare_resting": 10.0,
    "bare_first_step": 1.0,
}


def pair(streams: int = 1) -> Pair:
    return Pair(
        on=served([(101, ON)] * streams, wall_ms=1212.0, draft_ms=4.0),
        off=served([(101, OFF)] * streams, wall_ms=2424.0),
    )


def test_terms_are_those_of_speculative_steps() -> None:
    found = pair()
    assert (found.plain_ms, found.tree_ms, found.on.draft_ms, found.ring_ms) == (20.0, 22.0, 4.0, 2.0)
    assert found.tree_tokens == 3.0
    assert found.predicted == pytest.approx(3.0 * 20.0 / 28.0)
    assert found.measured == 2.0
    assert found.reached == pytest.approx(2.0 / (60.0 / 28.0))


def test_steps_without_trees_are_told_by_why_but_for_those_that_end_a_prompt() -> None:
    assert pair().on.plain == {"resting": 10.0}


def test_streams_of_a_batch_share_their_steps() -> None:
    one, eight = pair(), pair(8)
    assert eight.predicted == pytest.approx(one.predicted)
    assert eight.on.tokens_per_s == pytest.approx(8 * one.on.tokens_per_s)


def test_the_parts_of_a_step_add_up_to_its_share_of_the_clock() -> None:
    found = pair()
    for side in (found.on, found.off):
        assert sum(parts(side).values()) == pytest.approx(side.wall_ms / side.steps)
    assert parts(found.on) == pytest.approx(
        {"forward": 21.5, "trees": 3.75, "commit": 1.0, "host": 2.25, "outside": 1.8}
    )
