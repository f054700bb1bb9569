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
