"""What a gateway tells of Redis and the queues (services/gateway/redis_figures.py)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from services.gateway.bus import Bus
from services.gateway.redis_figures import RedisFigures
from shared.errors import BusUnavailable
from shared.records import Origin
from shared.scripts import call, enqueue, load_library
from shared.telemetry import Telemetry, configure
from shared.topics import Keys


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    with configure("gateway", "g.1") as configured:
        yield configured


def told(telemetry: Telemetry) -> dict[str, float]:
    lines = [line for line in telemetry.prometheus().decode().splitlines() if line.startswith("adaserve_")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


async def test_memory_streams_and_queues_are_told(
    redis_url: str, redis_client: Redis, keys: Keys, telemetry: Telemetry
) -> None:
    load_library(redis_client)
    origin = Origin(body=b"", tenant="acme", tier=1, seed=1, gateway="g.1", traceparent=None)
    for number in range(12):  # more than the stream before the list holds
        asked = enqueue(keys, request=f"{number:032x}", origin=origin, position=1, digest="0" * 16, limit=100)
        call(redis_client, asked)
    redis_client.hincrbyfloat(keys.request(f"{0:032x}"), "enqueued_ms", -60_000)
    redis_client.xadd(keys.dead, {"reason": "x"})
    redis_client.xadd(keys.requests(2), {"body": b"\xff"})
    redis_client.xadd(keys.requests(2), {"nothing": b""})
    bus = Bus(redis_url, keys, "g.1")
    await RedisFigures(bus, telemetry).look()
    await bus.stop()
    figures = told(telemetry)
    assert figures["adaserve_redis_up"] == 1
    assert figures['adaserve_redis_memory_bytes{kind="used"}'] > 100_000
    assert figures['adaserve_redis_memory_bytes{kind="max"}'] >= 0
    assert figures['adaserve_stream_entries{stream="requests_1"}'] == 8
    assert figures['adaserve_stream_entries{stream="dead"}'] == 1
    assert figures['adaserve_stream_entries{stream="control"}'] == 0
    assert [figures[f'adaserve_queue_requests{{tier="{tier}"}}'] for tier in range(4)] == [0, 12, 2, 0]
    assert 60 < figures['adaserve_queue_oldest_seconds{tier="1"}'] < 120
    assert [figures[f'adaserve_queue_oldest_seconds{{tier="{tier}"}}'] for tier in (0, 2, 3)] == [0, 0, 0]


async def test_redis_away_is_a_figure_and_no_noise(
    keys: Keys, telemetry: Telemetry, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    bus = Bus(f"unix://{tmp_path}/nobody", keys, "g.1")
    with caplog.at_level(logging.DEBUG, "services"):
        await RedisFigures(bus, telemetry).look()
    await bus.stop()
    assert told(telemetry)["adaserve_redis_up"] == 0
    assert not caplog.records


async def test_a_server_that_refuses_everything_is_away(
    redis_url: str, redis_client: Redis, keys: Keys, telemetry: Telemetry
) -> None:
    bus = Bus(redis_url, keys, "g.1")
    figures = RedisFigures(bus, telemetry)
    await figures.look()
    redis_client.execute_command("ACL", "SETUSER", "default", "-info", "-xlen")
    try:
        await figures.look()
        assert told(telemetry)["adaserve_redis_up"] == 1  # of what it does not tell, the rest is told
        with pytest.raises(BusUnavailable):
            await bus.look([("INFO", "memory"), ("XLEN", keys.dead)])
    finally:
        redis_client.execute_command("ACL", "SETUSER", "default", "+@all")
        await bus.stop()
