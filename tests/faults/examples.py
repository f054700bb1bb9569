"""Guards by example: what must fail on the server itself as soon as one of them is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from services.gateway.delivery import Gap
from services.gateway.errors import ApiError
from services.gateway.stream_ids import EventIds, seen_of
from services.verifier.bus import VerifierBus
from services.verifier.committer import Committer
from shared import digest as digests
from shared.errors import BusUnavailable
from shared.heartbeat import Heartbeat
from shared.replies import CommitStatus, ReseedStatus
from shared.scripts import Forgotten, forget_consumer
from shared.topics import HEARTBEAT_TTL_MS, VERIFIER_GROUP, Keys
from tests.faults.silence import Silence
from tests.unit.services.gateway.test_delivery import chain, delivery
from tests.unit.services.verifier.test_committer import Scripted, settlements
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


def a_commit_without_an_answer_is_made_again(cell: Cell) -> None:
    """Else a lost finish leaves the request to its owner's next look at its own set."""
    bus = Scripted(BusUnavailable("gone"), [CommitStatus.SAME])
    Committer(bus, Silence(), lambda _: True).commit(settlements(1), None)
    assert bus.answers == []


def an_owner_restores_what_redis_forgot(cell: Cell) -> None:
    """Else a gateway does, which holds less and waits longer."""
    bus = Scripted([CommitStatus.MISSING], [CommitStatus.OK], reseeds=[ReseedStatus.OK])
    assert Committer(bus, Silence(), lambda _: True).commit(settlements(1), None).lost == []


def a_copy_of_an_event_is_no_reason_to_read_the_journal(cell: Cell) -> None:
    """Its digest would tell, too, at the price of an attach."""
    events, _ = chain([[5], [6, 7]])
    target = delivery()
    assert target.receive(events[0], 1.0) is not None
    assert target.receive(events[0], 2.0) is None


def an_event_of_another_chain_is_not_shown(cell: Cell) -> None:
    """After a rollback another verifier may go on with another token where the client stands."""
    (_, seen), _ = chain([[5], [6]])
    target = delivery()
    target.receive(chain([[4], [6]])[0][0], 1.0)
    with pytest.raises(Gap):
        target.receive(seen, 2.0)


def a_client_does_not_go_on_with_another_output(cell: Cell) -> None:
    """After Redis and the gateway have lost what was sent, another verifier may have chosen otherwise."""
    sent, held = (EventIds("0" * 32, 3, digests.EMPTY, tokens) for tokens in ([5, 6, 7], [5, 4, 7]))
    seen = seen_of(sent.at(6), "0" * 32)
    assert seen is not None
    with pytest.raises(ApiError, match="not those that were sent before"):
        held.check(seen)


EXAMPLES: tuple[Scenario, ...] = (
    *SCENARIOS,
    nobody_reaches_for_what_a_live_verifier_owns,
    who_was_away_itself_takes_nothing_over,
    what_a_dead_consumer_has_read_keeps_its_consumer,
    a_commit_without_an_answer_is_made_again,
    an_owner_restores_what_redis_forgot,
    a_copy_of_an_event_is_no_reason_to_read_the_journal,
    an_event_of_another_chain_is_not_shown,
    a_client_does_not_go_on_with_another_output,
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
        except (Exception, pytest.fail.Exception):  # whatever it is: something noticed
            failed.append(example.__name__)
    client.close()
    return failed
