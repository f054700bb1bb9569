"""A gateway whose Redis is dead knows its keys and follows its policy; `make noredis` waits for minutes."""

from __future__ import annotations

import pytest

from tests.effort import heavy
from tests.faults.without_redis import BACK_S, campaign


@heavy
@pytest.mark.timeout(120)
def test_keys_and_policy_go_on_and_completions_come_back() -> None:
    tally, back = campaign(9.0)
    assert tally.wrong == []
    assert {kind for kind, _, _ in tally.seen} >= {
        "class the file has not",
        "class the file has got",
        "unknown key",
    }
    assert back < BACK_S
