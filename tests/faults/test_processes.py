"""A short storm and one kill on real processes with table models: no stream is anything but plain decoding."""

from __future__ import annotations

import time

from shared.embedded_redis import EmbeddedRedis
from tests.faults.cell import PlainDecoding, bodies, cell
from tests.faults.killer import Killer
from tests.faults.load import Load
from tests.faults.proxy import Fault, Proxy, Weather, running


def test_a_storm_and_a_killed_verifier_cost_no_token() -> None:
    weather = Weather(3, 0.01)
    with (
        EmbeddedRedis() as redis,
        running(str(redis.socket), weather.decide) as (proxy, url),
        cell(url, num_verifiers=2) as target,
    ):
        load = Load(target.gateways, bodies(3, max_tokens=60), PlainDecoding(), 4)
        weather.storm()
        load.start()
        time.sleep(1.0)
        ends = time.monotonic() + 30.0
        while not faults(proxy) and time.monotonic() < ends:  # a busy machine sends few commands
            time.sleep(0.1)
        weather.calm()
        Killer(target, 3, ["verifier"]).kill()
        load.stop()
    assert load.record.damage == []
    assert load.record.outcomes["whole"] >= 4
    assert faults(proxy) > 0


def faults(proxy: Proxy) -> int:
    """That have happened."""
    return sum(count for fault, count in proxy.counts.items() if fault is not Fault.NONE)
