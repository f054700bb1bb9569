"""No client's words in errors, logs, spans, metrics, dead letters, or another client's answer."""

from __future__ import annotations

import pytest

from tests.faults.canaries import problems, run


@pytest.mark.timeout(300)
def test_words_of_clients_turn_up_nowhere_else() -> None:
    campaign, found = run(num_clients=48)
    assert problems(campaign, found) == []
    assert campaign.outcomes["streamed"] + campaign.outcomes["whole"] > 20
    assert campaign.outcomes["left"] > 1
    assert sum(count for name, count in campaign.outcomes.items() if name.startswith("refused")) > 5
