"""A cell is rolled from the release before to this one and back: no stream notices."""

from __future__ import annotations

import subprocess

import pytest

from tests.effort import heavy
from tests.upgrade.campaign import ROLLS, campaign
from tests.upgrade.releases import ROOT, previous_release

HAS_IT = not subprocess.run(
    ["git", "cat-file", "-e", f"{previous_release()}^{{commit}}"], cwd=ROOT, capture_output=True, check=False
).returncode


@heavy
@pytest.mark.skipif(not HAS_IT, reason=f"this clone has no release {previous_release()} (a shallow one?)")
@pytest.mark.timeout(400)
def test_services_of_two_releases_serve_one_cell() -> None:
    result = campaign(ROLLS[:2])
    assert result.faults == []
    assert len(result.exits) == 16
    assert sum(one.journal.outcomes["whole"] for one in result.rolls) >= 50
