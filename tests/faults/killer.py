"""Kills and stops processes of a cell under load, and checks every stream that was open.

python -m tests.faults.killer --kills 100                     table models, all four services
python -m tests.faults.killer --kills 20 --only verifier      one kind
python -m tests.faults.killer --stops 0.2 5 60                SIGSTOP for so many seconds instead
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from shared.embedded_redis import EmbeddedRedis
from tests.faults.cell import KINDS, Cell, PlainDecoding, bodies, cell, kind_of, pair_bodies
from tests.faults.load import STALL_S, Expect, Load, Record

CLIENTS = 6
MAX_TOKENS = 160


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is done to which members, how often; ``pair`` takes the embedded models instead of tables."""

    kills: int
    stops: Sequence[float]
    kinds: Sequence[str]
    period_s: float
    seed: int
    pair: bool

    @property
    def num_verifiers(self) -> int:
        return 2 if self.pair else 3


class Killer:
    """Picks a victim of a kind, at random moments."""

    def __init__(self, target: Cell, seed: int, kinds: Sequence[str]) -> None:
        self._cell, self._chance, self._kinds = target, random.Random(seed), kinds
        self.counts: Counter[str] = Counter()

    def kill(self) -> None:
        """SIGKILL; the process is started again at once."""
        name = self._victim()
        self.counts[f"{kind_of(name)} killed"] += 1
        self._cell.stack.kill(name)
        self._cell.start(name)

    def stop(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after so long."""
        name = self._victim()
        process = self._cell.stack.processes[name]
        self.counts[f"{kind_of(name)} stopped {seconds:g} s"] += 1
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(process.pid, signal.SIGCONT)

    def rest(self, period_s: float) -> None:
        """Until the next strike."""
        time.sleep(period_s * self._chance.uniform(0.4, 1.6))

    def _victim(self) -> str:
        kind = self._chance.choice(self._kinds)
        return self._chance.choice([name for name in self._cell.names if kind_of(name) == kind])


def report(killer: Killer, record: Record, took_s: float) -> None:
    """What was done, what the clients saw."""
    print(", ".join(f"{name}: {count}" for name, count in sorted(killer.counts.items())))
    print(f"{record.num_tokens} tokens checked in {took_s:.0f} s;", dict(record.outcomes))
    print(
        f"{len(record.stalls)} stalls above {STALL_S} s: p50 {record.stall(0.5):.2f} s, "
        f"p99 {record.stall(0.99):.2f} s, longest {record.stall(1.0):.2f} s"
    )
    print(f"damaged streams: {len(record.damage)}")
    for line in record.damage[:5]:
        print("   ", line)


def strike(killer: Killer, kills: int, stops: Sequence[float], period_s: float) -> None:
    """All kills, then all stops."""
    for _ in range(kills):
        killer.rest(period_s)
        killer.kill()
    for seconds in stops:
        killer.rest(period_s)
        killer.stop(seconds)


def campaign(plan: Plan) -> tuple[Killer, Record]:
    """A cell under load, struck again and again."""
    with (
        EmbeddedRedis() as redis,
        cell(redis.url, num_verifiers=plan.num_verifiers, is_table=not plan.pair) as target,
    ):
        asked, expect = _table_load(plan) if not plan.pair else _pair_load(target)
        load = Load(target.gateways, asked, expect, CLIENTS)
        killer = Killer(target, plan.seed, plan.kinds)
        load.start()
        time.sleep(1.0)
        strike(killer, plan.kills, plan.stops, plan.period_s)
        target.stack.wait_ready(*target.names)
        load.stop()
        return killer, load.record


def _table_load(plan: Plan) -> tuple[Iterator[dict[str, Any]], Expect]:
    return bodies(plan.seed, max_tokens=MAX_TOKENS), PlainDecoding()


def _pair_load(target: Cell) -> tuple[Iterator[dict[str, Any]], Expect]:
    """The same few requests again and again; the undisturbed cell says what they give."""
    asked = pair_bodies()
    given = {body["seed"]: target.stack.complete({**body, "return_token_ids": True}) for body in asked}
    tokens = {seed: answer["choices"][0]["token_ids"] for seed, answer in given.items()}
    return itertools.cycle(asked), lambda body: tokens[body["seed"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--stops", type=float, nargs="*", default=[])
    parser.add_argument("--only", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument("--period", type=float, default=1.0, help="seconds between strikes, on average")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pair", action="store_true", help="the embedded models instead of tables")
    chosen = parser.parse_args()
    plan = Plan(
        kills=chosen.kills,
        stops=chosen.stops,
        kinds=chosen.only,
        period_s=chosen.period,
        seed=chosen.seed,
        pair=chosen.pair,
    )
    started = time.monotonic()
    killer, record = campaign(plan)
    report(killer, record, time.monotonic() - started)
    raise SystemExit(bool(record.damage))


if __name__ == "__main__":
    main()
