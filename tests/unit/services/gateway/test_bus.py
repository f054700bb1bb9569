"""A gateway's calls end in time, however often they may be tried."""

from __future__ import annotations

import asyncio

import pytest

from services.gateway.bus import Bus
from shared import scripts
from shared.errors import BusUnavailable
from shared.topics import Keys


class Hanging:
    """A client whose server is stopped: connected, and silent."""

    def __init__(self) -> None:
        self.num_commands = 0

    async def execute_command(self, *command: object) -> None:
        self.num_commands += 1
        await asyncio.get_running_loop().create_future()


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Hanging:
    hanging = Hanging()
    monkeypatch.setattr("services.gateway.bus.connect_async", lambda url: hanging)
    monkeypatch.setattr("services.gateway.bus.CALL_S", 0.01)
    return hanging


async def test_a_call_that_hangs_is_not_tried_again(client: Hanging) -> None:
    bus = Bus("", Keys("cell"), "g.1")
    with pytest.raises(BusUnavailable, match="no answer within"):
        await bus.call(scripts.overdue(bus.keys))
    assert client.num_commands == 1


async def test_a_command_that_hangs_ends(client: Hanging) -> None:
    bus = Bus("", Keys("cell"), "g.1")
    with pytest.raises(BusUnavailable, match="no answer within"):
        await bus.orders()
    assert not await bus.can_write()
