"""The table of promises names campaigns that exist, and believes their exit codes."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.faults.chaos import CAMPAIGNS, Campaign, run


@pytest.mark.parametrize("name", CAMPAIGNS)
def test_every_campaign_can_be_started(name: str) -> None:
    assert find_spec(CAMPAIGNS[name].words.partition(" ")[0]) is not None


@pytest.mark.parametrize(("words", "holds"), [("timeit -n1 pass", True), ("timeit -n1 1/0", False)])
def test_a_promise_holds_when_its_campaign_says_so(
    words: str, holds: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("example", Campaign("arithmetic", words), tmp_path) is holds
    assert ("holds," in capsys.readouterr().out) is holds
    assert (tmp_path / "example.out").read_text()
