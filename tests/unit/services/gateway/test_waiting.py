"""Who waits in Redis for a verifier, and for how long (services/gateway/waiting.py)."""

from __future__ import annotations

import time

from redis import Redis

from services.gateway import waiting
from services.gateway.bus import Bus
from shared.records import Origin
from shared.scripts import call, claim, enqueue, load_library, release
from shared.topics import Keys

OLD_MS = 60_000


def put(redis_client: Redis, keys: Keys, number: int, tier: int) -> str:
    """Enqueued a minute ago, though Redis has let it into the stream only now."""
    name = f"{number:032x}"
    origin = Origin(body=b"", tenant="acme", tier=tier, seed=1, gateway="g.1", traceparent=None)
    call(redis_client, enqueue(keys, request=name, origin=origin, position=1, digest="0" * 16, limit=100))
    redis_client.hincrbyfloat(keys.request(name), "enqueued_ms", -OLD_MS)
    return name


def give_back(redis_client: Redis, keys: Keys, name: str, tier: int) -> None:
    [(entry, _)] = redis_client.xrange(keys.requests(tier))
    stream = keys.requests(tier)
    taken = claim(keys, request=name, verifier="v.1", epoch="01", entry_id=entry.decode(), stream=stream)
    assert call(redis_client, taken).status == "OK"
    assert call(redis_client, release(keys, request=name, verifier="v.1", epoch="01")) == "OK"


async def test_a_request_waits_since_it_was_enqueued_also_when_it_was_given_back(
    redis_url: str, redis_client: Redis, keys: Keys
) -> None:
    load_library(redis_client)
    bus = Bus(redis_url, keys, "g.1")
    assert await waiting.look(bus) == [(0, 0.0)] * 4
    put(redis_client, keys, 1, tier=0)
    untouched, half_served = put(redis_client, keys, 2, tier=1), put(redis_client, keys, 3, tier=3)
    give_back(redis_client, keys, untouched, tier=1)
    give_back(redis_client, keys, half_served, tier=3)
    redis_client.hset(keys.request(half_served), "last_token_ms", time.time() * 1e3 - OLD_MS / 2)
    redis_client.xadd(keys.released, {"body": b"\xff"})
    redis_client.xadd(keys.released, {"nothing": b""})
    urgent, given_back, none, served = await waiting.look(bus)
    await bus.stop()
    assert (urgent.num_requests, given_back.num_requests, none, served.num_requests) == (1, 1, (0, 0.0), 1)
    assert 60 <= urgent.oldest_s < 70
    assert 60 <= given_back.oldest_s < 70
    assert 30 <= served.oldest_s < 40
