"""What `bench.typical` makes of answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.typical import Answered, agreement, policy, row, table
from shared.policy import load_policy


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [([1, 2, 3], [1, 2, 3], 3), ([1, 2, 3], [1, 9, 3], 1), ([1, 2], [1, 2, 3], 2), ([], [1], 0)],
)
def test_tokens_agree_up_to_the_first_difference(one: list[int], other: list[int], same: int) -> None:
    assert agreement(one, other) == same


def test_a_row_tells_shares_and_acceptance() -> None:
    exact = [Answered([1, 2, 3, 4], 2, 2), Answered([5, 6, 7, 8], 2, 0)]
    typical = [Answered([1, 2, 3, 4], 1, 3), Answered([5, 9, 9, 9], 1, 2)]
    found = row(0.3, exact, typical)
    assert (found.identical, found.agreed, found.tokens_a_step) == (0.5, 5 / 8, 3.5)
    assert row(None, exact, exact).tokens_a_step == 1.5
    assert row(None, [Answered([1], 0, 0)], [Answered([1], 0, 0)]).tokens_a_step == 1.0
    assert table([row(None, exact, exact), found]).splitlines()[-1] == "| 0.3 | 50% | 62% | 2 | 3.50 |"


def test_its_policy_has_a_tenant_for_each_threshold(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(policy([0.09, 1.0]))
    found = load_policy(tmp_path / "policy.yaml").tenants
    assert [tenant.typical for tenant in found.values()] == [None, 0.09, 1.0]
