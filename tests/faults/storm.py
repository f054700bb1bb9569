"""A cell of processes behind the fault proxy: every command to Redis may be lost, doubled, late or cut.

python -m tests.faults.storm --seconds 60 --odds 0.01
"""

from __future__ import annotations

import argparse
import time

from shared.embedded_redis import EmbeddedRedis
from tests.faults.cell import PlainDecoding, bodies, cell
from tests.faults.killer import CLIENTS, MAX_TOKENS
from tests.faults.load import Load, Record
from tests.faults.proxy import Proxy, Weather, running


def storm(seconds: float, odds: float, seed: int) -> tuple[Proxy, Record]:
    """A table cell under load in bad weather, then in good weather until every client has its stream."""
    weather = Weather(seed, odds)
    with (
        EmbeddedRedis() as redis,
        running(str(redis.socket), weather.decide) as (proxy, url),
        cell(url, num_verifiers=2) as target,
    ):
        load = Load(target.gateways, bodies(seed, max_tokens=MAX_TOKENS), PlainDecoding(), CLIENTS)
        weather.storm()
        load.start()
        time.sleep(seconds)
        weather.calm()
        load.stop()
        return proxy, load.record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--odds", type=float, default=0.01, help="of a fault, per command")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    proxy, record = storm(chosen.seconds, chosen.odds, chosen.seed)
    print("faults:", ", ".join(f"{fault} {count}" for fault, count in sorted(proxy.counts.items())))
    print(f"{record.num_tokens} tokens checked;", dict(record.outcomes))
    print(f"{len(record.stalls)} stalls: p50 {record.stall(0.5):.2f} s, p99 {record.stall(0.99):.2f} s")
    print(f"damaged streams: {len(record.damage)}")
    for line in record.damage[:5]:
        print("   ", line)
    raise SystemExit(bool(record.damage))


if __name__ == "__main__":
    main()
