"""Kills and stops processes of a cell under load, and checks every stream that was open.

python -m tests.faults.killer --kills 100                     table models, all four services
python -m tests.faults.killer --kills 20 --only verifier      one kind
python -m tests.faults.killer --stops 0.2 5 60                SIGSTOP of each kind for so many seconds instead

Of each kind there are two members or three. A member is struck when all others have been ready for two lives of a
heartbeat, so that streams must go on there, within the goals. With --anytime it is struck whatever the others do:
they may all be down at once, and only what clients get counts. With --pair the models are the embedded ones.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import signal
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from shared.embedded_redis import EmbeddedRedis
from shared.topics import HEARTBEAT_TTL_MS
from tests.faults.cell import KINDS, Cell, PlainDecoding, bodies, cell, kind_of, pair_bodies
from tests.faults.load import STALL_S, Excuse, Load, Record
from tests.faults.strikes import Strike, missed, told

CLIENTS = 6
MAX_TOKENS = 160
RESTART_AFTER_S = 3.0  # with goals: one that loads its model beside those at work takes their processors


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is done to which members, how often; ``pair`` takes the embedded models instead of tables."""

    kills: int
    stops: Sequence[float]
    kinds: Sequence[str]
    period_s: float
    seed: int
    pair: bool
    dtype: str
    anytime: bool

    @property
    def num_verifiers(self) -> int:
        return 2 if self.pair else 3


class Killer:
    """Picks a victim of a kind, at random moments."""

    def __init__(self, target: Cell, seed: int, kinds: Sequence[str], restart_after_s: float = 0.0) -> None:
        self._cell, self._chance, self._kinds = target, random.Random(seed), kinds
        self._restart_after_s = restart_after_s
        self.strikes: list[Strike] = []

    def kill(self, kind: str | None = None) -> None:
        """SIGKILL; then the process is started again."""
        name = self._victim(kind)
        self._note(name, "killed")
        self._cell.stack.kill(name)
        time.sleep(self._restart_after_s)
        self._cell.start(name)

    def stop(self, seconds: float, kind: str | None = None) -> None:
        """SIGSTOP, and SIGCONT after so long."""
        name = self._victim(kind)
        process = self._cell.stack.processes[name]
        self._note(name, f"stopped {seconds:g} s")
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(process.pid, signal.SIGCONT)

    def rest(self, period_s: float) -> None:
        """Until the next strike."""
        time.sleep(period_s * self._chance.uniform(0.4, 1.6))

    def _victim(self, kind: str | None) -> str:
        kind = kind or self._chance.choice(self._kinds)
        return self._chance.choice([name for name in self._cell.names if kind_of(name) == kind])

    def _note(self, name: str, deed: str) -> None:
        self.strikes.append(Strike(kind_of(name), deed, time.monotonic()))


def report(killer: Killer, record: Record, took_s: float) -> None:
    """What was done, what the clients saw."""
    print("\n".join(told(killer.strikes, record.stalls)))
    print(f"{record.num_tokens} tokens checked in {took_s:.0f} s;", dict(record.outcomes))
    print(f"resumed after their last event: {record.num_resumed}; excused as near ties: {record.num_excused}")
    print(
        f"{len(record.stalls)} stalls above {STALL_S} s: p50 {record.stall(0.5):.2f} s, "
        f"p99 {record.stall(0.99):.2f} s, longest {record.stall(1.0):.2f} s"
    )
    print(f"damaged streams: {len(record.damage)}, ended with an error: {sum(record.errors().values())}")
    for line in record.damage[:5]:
        print("   ", line)


def strike(killer: Killer, target: Cell, plan: Plan) -> None:
    """All kills, then all stops, of each kind."""
    for _ in range(plan.kills):
        await_turn(killer, target, plan)
        killer.kill()
    for seconds, kind in itertools.product(plan.stops, plan.kinds):
        await_turn(killer, target, plan)
        killer.stop(seconds, kind)


def await_turn(killer: Killer, target: Cell, plan: Plan) -> None:
    """Until the next strike may be. A verifier that has just started takes nothing over: it may have been away."""
    if not plan.anytime:
        target.stack.wait_ready(*target.names)
        time.sleep(2 * HEARTBEAT_TTL_MS / 1_000)
    killer.rest(plan.period_s)


def campaign(plan: Plan) -> tuple[Killer, Record, float]:
    """A cell under load, struck again and again; and how long it takes to feed all clients' contexts, in s."""
    with (
        EmbeddedRedis() as redis,
        cell(
            redis.url,
            num_verifiers=plan.num_verifiers,
            num_others=2,
            is_table=not plan.pair,
            dtype=plan.dtype,
        ) as target,
    ):
        load, prefill_s = _pair_load(target, plan) if plan.pair else (_table_load(target, plan), 0.0)
        killer = Killer(target, plan.seed, plan.kinds, 0.0 if plan.anytime else RESTART_AFTER_S)
        load.start()
        time.sleep(1.0)
        strike(killer, target, plan)
        target.stack.wait_ready(*target.names)
        load.stop()
        return killer, load.record, prefill_s


def _table_load(target: Cell, plan: Plan) -> Load:
    return Load(target.gateways, bodies(plan.seed, max_tokens=MAX_TOKENS), PlainDecoding(), CLIENTS)


def _pair_load(target: Cell, plan: Plan) -> tuple[Load, float]:
    """The same few requests again and again; the undisturbed cell says what they give, and what prefill takes."""
    asked = pair_bodies()
    port = target.gateways[0]
    given = {body["seed"]: target.stack.complete({**body, "return_token_ids": True}, port) for body in asked}
    tokens = {seed: answer["choices"][0]["token_ids"] for seed, answer in given.items()}
    contexts = [[*body["prompt"], *tokens[body["seed"]]] for body in asked[:CLIENTS]]
    load = Load(
        target.gateways, itertools.cycle(asked), lambda body: tokens[body["seed"]], CLIENTS, _excuse(plan.dtype)
    )
    return load, _prefill_s(target, contexts)


def _prefill_s(target: Cell, contexts: Sequence[Sequence[int]]) -> float:
    """Until the last of these contexts, asked for at once, has been fed by one verifier, as after a death."""
    others = [name for name in target.names if kind_of(name) == "verifier"][1:]
    for name in others:
        target.stack.kill(name)
    time.sleep(HEARTBEAT_TTL_MS / 1_000)

    def feed(context: Sequence[int]) -> None:
        target.stack.complete({"prompt": list(context), "max_tokens": 1}, target.gateways[0])

    started = time.monotonic()
    with ThreadPoolExecutor(len(contexts)) as pool:
        list(pool.map(feed, contexts))
    took_s = time.monotonic() - started
    target.start_all(others)
    return took_s


def _excuse(dtype: str) -> Excuse:
    if dtype == "float64":
        return lambda *_: False
    from tests.faults.near_ties import NearTies  # torch, which a campaign with tables can do without

    return NearTies(dtype)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--stops", type=float, nargs="*", default=[])
    parser.add_argument("--only", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument("--period", type=float, default=1.0, help="seconds between strikes, on average")
    parser.add_argument("--anytime", action="store_true", help="strike while others are down too")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pair", action="store_true", help="the embedded models instead of tables")
    parser.add_argument("--dtype", choices=("float64", "float32"), default="float64", help="of the real target")
    chosen = parser.parse_args()
    plan = Plan(
        kills=chosen.kills,
        stops=chosen.stops,
        kinds=chosen.only,
        period_s=chosen.period,
        seed=chosen.seed,
        pair=chosen.pair,
        dtype=chosen.dtype,
        anytime=chosen.anytime,
    )
    started = time.monotonic()
    killer, record, prefill_s = campaign(plan)
    report(killer, record, time.monotonic() - started)
    print(f"feeding all clients' contexts takes {prefill_s:.2f} s")
    failed = [] if plan.anytime else missed(killer.strikes, record.stalls, prefill_s)
    for line in failed:
        print("MISSED", line)
    raise SystemExit(bool(record.damage or record.errors() or failed))


if __name__ == "__main__":
    main()
