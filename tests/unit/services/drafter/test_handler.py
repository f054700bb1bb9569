"""Whose rows the drafter keeps between messages, and what it says of its KV."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from services.drafter.drafter import Drafter
from services.drafter.handler import HOUSEKEEPING_S, SILENT_S, DraftHandler
from shared.telemetry import Telemetry, configure
from shared.topics import Keys
from tests.unit.services.drafter.test_drafter import message, new_drafter


class Stand:
    """A handler over a table drafter; time is set by hand."""

    def __init__(self, telemetry: Telemetry) -> None:
        self.telemetry = telemetry
        self.drafter: Drafter = new_drafter()
        self.live = {"v.1", "v.2"}
        self.now = 0.0
        self.handler = DraftHandler(self.drafter, Keys("x"), telemetry, lambda: self.live, clock=lambda: self.now)
        self.handler.handle(message([[1, 2]], verifier="v.1"))
        self.handler.handle(message([[3, 4]], verifier="v.2"))

    def later(self, seconds: float) -> None:
        self.now += seconds
        assert self.handler.has_background_work
        self.handler.background()

    @property
    def shown(self) -> float:
        lines = self.telemetry.prometheus().decode().splitlines()
        return float(next(line for line in lines if 'kv_blocks{state="used"}' in line).split()[-1])


@pytest.fixture
def stand() -> Iterator[Stand]:
    with configure("drafter", "test") as telemetry:
        yield Stand(telemetry)


def test_rows_of_a_verifier_that_is_gone_are_forgotten(stand: Stand) -> None:
    before = stand.shown
    stand.live = {"v.2"}
    stand.later(HOUSEKEEPING_S)
    assert stand.drafter.num_rows == 1
    assert stand.shown == before / 2 > 0


def test_rows_of_a_verifier_that_asks_another_drafter_now_are_forgotten(stand: Stand) -> None:
    stand.now = SILENT_S / 2
    stand.handler.handle(message([[3, 4, 5]], base=[2], verifier="v.2"))
    stand.later(SILENT_S / 2)
    assert stand.drafter.num_rows == 1
    stand.later(SILENT_S / 2)
    assert (stand.drafter.num_rows, stand.shown) == (0, 0)
    assert not stand.handler.has_background_work


def drafting_ahead(telemetry: Telemetry) -> DraftHandler:
    """Drafts ahead always; time stands still."""
    return DraftHandler(new_drafter(), Keys("x"), telemetry, lambda: {"v.1"}, clock=lambda: 0.0, draft_ahead="on")


def ahead_rows(telemetry: Telemetry, outcome: str) -> float:
    lines = telemetry.prometheus().decode().splitlines()
    wanted = f'adaserve_draft_ahead_rows_total{{outcome="{outcome}"}}'
    return float(next(line for line in lines if line.startswith(wanted)).split()[-1])


@pytest.mark.parametrize(("comes_true", "outcome"), [(True, "hit"), (False, "miss")])
def test_outcomes_are_drafted_from_between_messages_and_counted(comes_true: bool, outcome: str) -> None:
    with configure("drafter", "test") as telemetry:
        handler = drafting_ahead(telemetry)
        handler.handle(message([[1, 2]]))
        slices = 0
        while handler.has_background_work:
            handler.background()
            slices += 1
        assert slices == 4  # the leaves, the last tokens of outcomes, and two levels: one forward pass each
        [draft] = handler._drafter._rows.values()
        others = [token for token in range(9) if [token] not in [branch.tokens for branch in draft.branches]]
        tokens = draft.branches[0].tokens if comes_true else [others[0], 8, 8]
        [out] = handler.handle(message([[1, 2, *tokens]], base=[2]))
        [fresh] = drafting_ahead(telemetry).handle(message([[1, 2, *tokens]]))
        assert out.message.tokens.tolist() == fresh.message.tokens.tolist()  # type: ignore[attr-defined]
        assert ahead_rows(telemetry, outcome) == 1.0


def test_a_message_drops_what_it_makes_useless() -> None:
    with configure("drafter", "test") as telemetry:
        handler = drafting_ahead(telemetry)
        handler.handle(message([[1, 2]]))
        handler.background()
        handler.handle(message([]))
        assert not handler.has_background_work
        assert handler._drafter.num_blocks_used == 0


def test_without_the_setting_nothing_is_drafted_ahead(stand: Stand) -> None:
    assert not stand.handler.has_background_work
