"""Where drawn tokens end a request."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from services.verifier.stopping import Outcome, StopRules, judge
from tests.requests import request

RULES = StopRules(end_ids=frozenset({0}), min_tokens=0, max_tokens=5)


@dataclass
class Scripted:
    """A scanner that finds a stop string at its n-th token."""

    at: int
    seen: int = 0

    def push(self, token: int) -> int | None:
        self.seen += 1
        return 17 if self.seen == self.at else None


@pytest.mark.parametrize(
    ("drawn", "num_output", "outcome"),
    [
        ([4, 5], 0, Outcome(2)),
        ([4, 0, 5], 0, Outcome(2, "stop")),  # an end token inside an accepted path
        ([0], 4, Outcome(1, "stop")),  # the end token wins over the length
        ([4, 5, 6], 3, Outcome(2, "length")),
        ([4, 5, 6, 7, 8, 9, 10], 0, Outcome(5, "length")),
    ],
)
def test_outcomes(drawn: list[int], num_output: int, outcome: Outcome) -> None:
    assert judge(drawn, num_output, RULES, None) == outcome


def test_a_stop_string_commits_through_its_last_token() -> None:
    scanner = Scripted(at=2)
    assert judge([4, 5, 6], 0, RULES, scanner) == Outcome(2, "stop", 17)
    assert scanner.seen == 2


def test_ignore_eos_keeps_the_requests_own_stop_ids() -> None:
    rules = StopRules.of(request(ignore_eos=True, stop_token_ids=(9,)), frozenset({0}))
    assert rules.end_ids == {9}
    assert StopRules.of(request(), frozenset({0})).end_ids == {0}
