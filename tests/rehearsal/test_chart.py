"""The chart's own render, started: what values and templates say is what serves, also while it is changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.effort import heavy
from tests.rehearsal.test_node import WHY, on_a_node

pytestmark = pytest.mark.skipif(WHY is not None, reason=f"no node here: {WHY}")


def test_the_smallest_example_starts_and_serves(tmp_path: Path) -> None:
    seen = on_a_node("start", tmp_path)
    assert seen["faults"] == []
    assert sum(step["whole"] for step in seen["steps"]) >= 2


@heavy
@pytest.mark.timeout(400)
def test_no_client_sees_a_rollout_an_upgrade_of_everything_or_a_scale(tmp_path: Path) -> None:
    seen = on_a_node("changes", tmp_path)
    assert seen["faults"] == []
