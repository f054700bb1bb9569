"""The verifier's side of the work queues when replies are lost."""

from __future__ import annotations

from typing import Any

import pytest
import redis.exceptions as raised
from redis import Redis

from services.verifier.bus import VerifierBus
from shared.errors import BusUnavailable
from shared.functions import load_library
from shared.records import Origin
from shared.scripts import call, enqueue
from shared.topics import VERIFIER_GROUP, Keys

REQUEST = "0" * 32


class LosesReply:
    """A client that loses the reply to the next command of one name, after its effect."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self.loses = ""

    def execute_command(self, *words: Any) -> Any:
        reply = self._client.execute_command(*words)  # type: ignore[no-untyped-call]
        if words[0] == self.loses:
            self.loses = ""
            raise raised.ConnectionError("reply lost")
        return reply

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


def put(client: Redis, keys: Keys) -> None:
    call(
        client,
        enqueue(
            keys,
            request=REQUEST,
            origin=Origin(body=b"body", tenant="t", tier=2, seed=1, gateway="", traceparent=None),
            position=3,
            digest="00" * 8,
            limit=10,
        ),
    )


@pytest.mark.parametrize("block_ms", [None, 10.0])
def test_what_was_taken_from_a_dead_verifier_is_not_lost_with_the_reply(
    redis_client: Redis, keys: Keys, block_ms: float | None
) -> None:
    load_library(redis_client)
    client: Any = LosesReply(redis_client)
    bus = VerifierBus(client, client, keys, "v.2")
    bus.start()
    put(redis_client, keys)
    redis_client.xreadgroup(VERIFIER_GROUP, "v.1", {keys.requests(2): ">"})  # and dies before it claims
    client.loses = "XCLAIM"
    with pytest.raises(BusUnavailable):
        bus.take_orphans(["v.2"], set(), 8)
    assert [claimed.request for claimed in bus.take(8, block_ms)] == [REQUEST]


@pytest.mark.parametrize("then_ms", [None, 10.0])
@pytest.mark.parametrize("block_ms", [None, 10.0])
def test_either_reader_finds_what_the_other_has_lost(
    redis_client: Redis, keys: Keys, block_ms: float | None, then_ms: float | None
) -> None:
    load_library(redis_client)
    client: Any = LosesReply(redis_client)
    bus = VerifierBus(client, client, keys, "v.1")
    bus.start()
    put(redis_client, keys)
    client.loses = "XREADGROUP"
    with pytest.raises(BusUnavailable):
        bus.take(8, block_ms)
    assert [claimed.request for claimed in bus.take(8, then_ms)] == [REQUEST]
