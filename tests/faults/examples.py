"""Guards by example: what must fail on the server itself as soon as one of them is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from redis import Redis

from services.verifier.bus import VerifierBus
from shared.heartbeat import Heartbeat
from shared.scripts import Forgotten, forget_consumer
from shared.topics import HEARTBEAT_TTL_MS, VERIFIER_GROUP, Keys
from tests.unit.shared.test_scripts import GUARDS as SCENARIOS
from tests.unit.shared.test_scripts import Cell, Scenario


class Listening(Redis):
    """A client that remembers which scripts it has called."""

    def __init__(self, client: Redis) -> None:
        super().__init__(connection_pool=client.connection_pool)
        self.called: list[str] = []

    def execute_command(self, *args: Any, **options: Any) -> Any:
        if args[0] == "FCALL":
            self.called.append(args[1])
        return super().execute_command(*args, **options)


def nobody_reaches_for_what_a_live_verifier_owns(cell: Cell) -> None:
    """The claim would be refused; but each verifier would try it with each request of all others, each second."""
    first, second = (
        VerifierBus(client, client, cell.keys, f"v.{number}")
        for number, client in ((1, cell.client), (2, Listening(cell.client)))
    )
    for bus in (first, second):
        bus.start()
        cell.client.set(cell.keys.heartbeat("verifier", bus.verifier), b"\x80")  # an empty map
        cell.client.sadd(cell.keys.members("verifier"), bus.verifier)
    cell.enqueue()
    assert [claimed.request for claimed in first.take(5)] == ["r"]
    client = second._client
    assert isinstance(client, Listening)
    assert second.take_orphans(second.live_verifiers(), (), 5) == []
    assert "adaserve_claim" not in client.called


def who_was_away_itself_takes_nothing_over(cell: Cell) -> None:
    """A claim from a dead-looking owner would be harmless; but after a pause of Redis everybody looks dead."""
    now_s = [0.0]
    heartbeat = Heartbeat("unix://nowhere", cell.keys, "verifier", "v.1", dict, clock=lambda: now_s[0])
    heartbeat._client = cell.client
    for now_s[0] in (0.0, 5.0):
        heartbeat.beat()
    assert not heartbeat.on_time_for(2 * HEARTBEAT_TTL_MS)


def what_a_dead_consumer_has_read_keeps_its_consumer(cell: Cell) -> None:
    """Deleting it would drop the entry from everybody's sight."""
    cell.enqueue()
    stream = cell.keys.requests(1)
    cell.client.xgroup_create(stream, VERIFIER_GROUP, id="0")
    cell.client.xreadgroup(VERIFIER_GROUP, "v.1", {stream: ">"})
    assert cell.run(forget_consumer(cell.keys, stream=stream, consumer="v.1")) is Forgotten.PENDING


EXAMPLES: tuple[Scenario, ...] = (
    *SCENARIOS,
    nobody_reaches_for_what_a_live_verifier_owns,
    who_was_away_itself_takes_nothing_over,
    what_a_dead_consumer_has_read_keeps_its_consumer,
)


def failing(socket: Path, library: str) -> list[str]:
    """Names of the examples that fail with this library on the server there."""
    failed = []
    client = Redis(unix_socket_path=str(socket), protocol=2)
    for example in EXAMPLES:
        client.flushall()
        client.function_load(library, replace=True)
        try:
            example(Cell(client, Keys("example")))
        except Exception:  # whatever it is: something noticed
            failed.append(example.__name__)
    client.close()
    return failed
