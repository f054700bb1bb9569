"""Every replica of a cell is replaced, one by one, under load: start the new one, end the old one by SIGTERM.

python -m tests.faults.replacement                      two of each service, table models
python -m tests.faults.replacement --pair               the embedded models
python -m tests.faults.replacement --rounds 3 --drain 5

The load is open: requests come at 80 % of the rate that a closed loop of clients has reached before.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from shared.embedded_redis import EmbeddedRedis
from tests.faults.cell import KINDS, Cell, PlainDecoding, bodies, cell, kind_of, pair_bodies
from tests.faults.travellers import STALL_S, Journal, Travellers

SHARE = 0.8
CLIENTS = 12  # of the closed loop
NUM_BODIES = 40
MAX_TOKENS = 160
GOAL_S = 0.5

Asked = Sequence[tuple[dict[str, Any], Sequence[int]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """``measure_s`` for the capacity, then as long undisturbed, then ``rounds`` of replacement."""

    measure_s: float
    rounds: int
    drain_s: int
    pause_s: float
    pair: bool
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Result:
    """Streams a second, and what clients saw before and during the replacement."""

    capacity: float
    before: Journal
    during: Journal
    exits: dict[str, int]  # exit codes of the replaced
    took_s: float


def campaign(plan: Plan) -> Result:
    """Raises RuntimeError where a member does not become ready, TimeoutExpired where one does not end."""
    options = {"gateway": {"DRAIN_S": str(plan.drain_s)}}
    with (
        EmbeddedRedis() as redis,
        cell(redis.url, num_verifiers=2, num_others=2, is_table=not plan.pair, options=options) as target,
    ):
        return asyncio.run(_campaign(plan, target, pair_load(target) if plan.pair else table_load(plan.seed)))


def table_load(seed: int) -> Asked:
    """Known before the load begins: the clients share the machine with the cell."""
    expect = PlainDecoding()
    return [(body, expect(body)) for body in itertools.islice(bodies(seed, max_tokens=MAX_TOKENS), NUM_BODIES)]


def pair_load(target: Cell) -> Asked:
    """What the undisturbed cell gives."""
    port = target.stack.ports["gateway-0"]
    return [
        (body, target.stack.complete({**body, "return_token_ids": True}, port)["choices"][0]["token_ids"])
        for body in pair_bodies()
    ]


async def _campaign(plan: Plan, target: Cell, asked: Asked) -> Result:
    travellers = Travellers([target.stack.ports[name] for name in target.names if kind_of(name) == "gateway"])
    endless = itertools.cycle(asked)
    capacity = await _capacity(travellers, endless, plan.measure_s)
    before = travellers.journal = Journal()
    loading = asyncio.create_task(_open_loop(travellers, endless, SHARE * capacity, random.Random(plan.seed)))
    await asyncio.sleep(plan.measure_s)
    during = travellers.journal = Journal()
    started = time.monotonic()
    exits = await _replace_all(plan, target, travellers)
    took_s = time.monotonic() - started
    loading.cancel()
    await travellers.all_home()
    return Result(capacity, before, during, exits, took_s)


async def _capacity(travellers: Travellers, asked: Iterator[Any], seconds: float) -> float:
    """Streams a second of a closed loop, after a warm-up of the same length."""
    ends = time.monotonic() + 2 * seconds
    counted_from: list[int] = []

    async def client() -> None:
        while time.monotonic() < ends:
            await travellers.travel(*next(asked))

    async def warm_up() -> None:
        await asyncio.sleep(seconds)
        counted_from.append(travellers.journal.outcomes["whole"])

    await asyncio.gather(warm_up(), *(client() for _ in range(CLIENTS)))
    took_s = time.monotonic() - ends + seconds
    return (travellers.journal.outcomes["whole"] - counted_from[0]) / took_s


async def _open_loop(travellers: Travellers, asked: Iterator[Any], rate: float, chance: random.Random) -> None:
    """Until cancelled; streams that are open then go on."""
    while True:
        await asyncio.sleep(chance.expovariate(rate))
        travellers.start(*next(asked))


async def _replace_all(plan: Plan, target: Cell, travellers: Travellers) -> dict[str, int]:
    exits: dict[str, int] = {}
    fresh = itertools.count(2)
    for _ in range(plan.rounds):
        for kind in KINDS:
            for old in [name for name in target.names if kind_of(name) == kind and name not in exits]:
                new = f"{kind}-{next(fresh)}"
                exits[old] = await _replace(target, travellers, old, new)
                travellers.phase = "nothing"
                await asyncio.sleep(plan.pause_s)
    return exits


async def _replace(target: Cell, travellers: Travellers, old: str, new: str) -> int:
    """The old one's exit code. Clients know it until it is gone, as a load balancer would for a while."""
    travellers.phase = f"{kind_of(new)} starts"
    await asyncio.to_thread(target.start_all, [new])
    travellers.phase = f"{kind_of(old)} ends"
    is_gateway = kind_of(old) == "gateway"
    if is_gateway:
        travellers.ports.append(target.stack.ports[new])
    target.signal(old, signal.SIGTERM)
    code = await asyncio.to_thread(target.end_of, old)
    if is_gateway:
        travellers.ports.remove(target.stack.ports[old])
    return code


def report(result: Result) -> None:
    """What was done, what the clients saw."""
    rate = SHARE * result.capacity
    print(f"capacity {result.capacity:.1f} streams/s (closed loop of {CLIENTS}); offered {rate:.1f}, {SHARE:.0%}")
    bad = {name: code for name, code in result.exits.items() if code}
    print(
        f"{len(result.exits)} replicas replaced in {result.took_s:.0f} s; exit codes other than 0: {bad or 'none'}"
    )
    for name, journal in (("undisturbed", result.before), ("replacement", result.during)):
        print(
            f"{name}: {journal.outcomes['whole']} streams, {journal.num_tokens} tokens, {dict(journal.outcomes)}"
        )
        wrong = [line for line in journal.damage if line.startswith("wrong")]
        failed = len(journal.damage) - len(wrong)
        print(f"    truncated or failed {failed} (goal 0), wrong tokens {len(wrong)} (goal 0)")
        print(
            f"    longest silence of a stream: p50 {journal.gap(0.5):.2f} s, p99 {journal.gap(0.99):.2f} s, "
            f"longest {max(journal.gaps, default=0.0):.2f} s (goal: p99 {GOAL_S} s + prefill)"
        )
        for phase, stalls in journal.stalls.items():
            print(
                f"    silent for more than {STALL_S} s while {phase}: {len(stalls)}, longest {max(stalls):.2f} s"
            )
        for line in journal.damage[:5]:
            print("   ", line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1, help="how often every replica is replaced")
    parser.add_argument("--measure", type=float, default=6.0, help="seconds for each of the phases before")
    parser.add_argument("--drain", type=int, default=1, help="ADASERVE_DRAIN_S of the gateways")
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between two replacements")
    parser.add_argument("--pair", action="store_true", help="the embedded models instead of tables")
    chosen = parser.parse_args()
    plan = Plan(
        measure_s=chosen.measure,
        rounds=chosen.rounds,
        drain_s=chosen.drain,
        pause_s=chosen.pause,
        pair=chosen.pair,
    )
    result = campaign(plan)
    report(result)
    raise SystemExit(bool(result.before.damage or result.during.damage or any(result.exits.values())))


if __name__ == "__main__":
    main()
