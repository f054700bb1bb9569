"""The chart's own render, started: what values and templates say is what serves, also while it is changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.effort import heavy
from tests.rehearsal.test_node import WHY, on_a_node

pytestmark = pytest.mark.skipif(WHY is not None, reason=f"no node here: {WHY}")


def test_what_the_smallest_example_starts_without_models_runs_and_ends_well(tmp_path: Path) -> None:
    seen = on_a_node("light", tmp_path)
    assert seen["statuses"] == {"/live": 200, "/ready": 503}  # there is no verifier
    assert seen["notes"] == []
    assert {name.split("/")[1]: code for name, code in seen["exits"].items()} == {
        "redis": 0,
        "write-acl": 0,
        "selector": 0,
        "gateway": 0,
    }


@heavy
@pytest.mark.timeout(400)
def test_no_client_sees_a_rollout_an_upgrade_of_everything_or_a_scale(tmp_path: Path) -> None:
    seen = on_a_node("changes", tmp_path, 380.0)
    assert seen["faults"] == []
    steps = {step["name"]: step for step in seen["steps"]}
    (upgrade,) = [step for name, step in steps.items() if "Redis StatefulSet among it" in name]
    ended = {name.split("/")[1] for name in upgrade["exits"]}
    assert {"redis", "gateway", "drafter", "selector", "verifier"} <= ended  # all at once
    assert upgrade["alive"] > 0
    assert steps["verifier: 2, held"]["whole"] > 0
