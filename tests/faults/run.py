"""One seed: a whole cell under faults, then in peace, then judged."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from redis.exceptions import RedisError

from shared.errors import AdaServeError
from shared.messages import Request
from tests.faults.actors import VOCAB, DrafterProcess, SelectorProcess, Verifier, names
from tests.faults.checks import check_end, check_prefix
from tests.faults.clients import Client
from tests.faults.dice import Dice
from tests.faults.gateways import GatewayProcess
from tests.faults.lab import Lab, injected
from tests.faults.ledger import Violation
from tests.faults.world import World
from tests.requests import request
from tests.table_model import TableModel

FAULTY_TURNS = 160
CALM_TURNS = 900
VERIFIER_WEIGHT = 3
TIE_NOISE = 0.2
# What half of the requests ask for besides: all that has to be built again, and travel, with the tokens.
DEMANDS: dict[str, Any] = {
    "presence_penalty": 0.3,
    "frequency_penalty": 0.2,
    "repetition_penalty": 1.2,
    "bias_ids": np.array([1], np.int32),
    "bias": np.array([0.5]),
    "logprobs": 2,
}
LEAVE_ODDS, DRAIN_ODDS, BIRTH_ODDS = 0.004, 0.004, 0.05
KEY_ODDS = 0.3
ABSENCES_MS = (None, 50.0, 600.0, 3000.0)
DRAINS_MS = (0.0, 300.0, 3000.0)


FAILURES = (
    Violation,
    AdaServeError,
    AssertionError,
    ArithmeticError,
    LookupError,
    TypeError,
    ValueError,
    RedisError,
)
"""What a run ends with when a promise is broken or a handler has a bug."""


@dataclass(frozen=True, slots=True)
class Result:
    """One run: how its clients ended, what was reached, which rules were broken without harm to a client."""

    ends: Counter[str]
    reached: Counter[str]
    num_turns: int
    breaches: list[str]


class Run:
    """One seed."""

    def __init__(self, lab: Lab, seed: int) -> None:
        self.dice = Dice(seed)
        self.lab, self.world = lab, World(lab.line, self.dice)
        self.mishaps: list[str] = []
        self.models = [
            TableModel(VOCAB, seed=10 + number, noise=TIE_NOISE) if self.dice.odds.ties else TableModel(VOCAB)
            for number in range(2 if self.dice.odds.ties else 1)
        ]
        self.clients: list[Client] = []
        self._arrived: list[Client] = []
        self.gateways: list[GatewayProcess] = []  # dead ones too
        self._names = {kind: names(kind) for kind in ("verifier", "drafter", "selector", "gateway")}

    # -- members ----------------------------------------------------------------------------------------------
    def start(self) -> None:
        chance = self.dice.random
        for _ in range(chance.choice((1, 1, 2))):
            self.be_born("gateway")
        self.be_born("drafter")
        self.be_born("selector")
        for _ in range(chance.randint(1, 3)):
            self.be_born("verifier")
        self.world.advance(1.0)
        for number in range(1, chance.randint(1, 4) + 1):
            self.clients.append(self._client(number))

    def be_born(self, kind: str) -> None:
        """A new process of this kind."""
        name, world, chance = next(self._names[kind]), self.world, self.dice.random
        if kind == "verifier":
            model = chance.choice(self.models)
            world.actors.append(Verifier(world, name, model, self.lab.telemetry, self.lab.tokenizer))
        elif kind == "drafter":
            world.actors.append(DrafterProcess(world, name, self.lab.telemetry, chance.choice((0.0, 0.5, 5.0))))
        elif kind == "gateway":
            lab, grace_s = self.lab, self.dice.odds.grace_s
            gateway = GatewayProcess(world, name, lab.telemetry, lab.tokenizer, self.mishaps, grace_s)
            self.gateways.append(gateway)
            world.actors.append(gateway)
        else:
            world.actors.append(SelectorProcess(world, name, self.lab.telemetry))

    def _client(self, number: int) -> Client:
        key = f"key {number}" if self.dice.random.random() < KEY_ODDS else None
        return Client(self._request(number), key, is_resumable=self.dice.random.random() < 0.5)

    def _request(self, number: int) -> Request:
        chance = self.dice.random
        asked = request(
            number,
            prompt=[chance.randrange(VOCAB) for _ in range(chance.randint(1, 9))],
            max_tokens=chance.randint(1, 14),
            temperature=chance.choice((0.0, 0.7, 1.0)),
            seed=chance.randrange(1000),
            tier=chance.randrange(4),
        )
        asked = replace(asked, inspect=asked.seed % 3 == 0)
        return replace(asked, **DEMANDS) if asked.seed % 2 else asked

    def living(self, kind: type) -> list[Any]:
        return [actor for actor in self.world.actors if isinstance(actor, kind) and actor.is_alive]

    # -- the run ----------------------------------------------------------------------------------------------
    def play(self) -> Result:
        """Raises Violation when a promise is broken."""
        self.start()
        waiting = list(self.clients)
        for _ in range(FAULTY_TURNS):
            if waiting and self.dice.random.random() < 0.2:
                self._arrived.append(waiting.pop())
            self._turn()
            self._disturb()
            if not waiting and all(client.is_over for client in self.clients):
                break
        self.dice.calm()
        self._arrived += waiting
        self._settle()
        return self._judge()

    def _turn(self) -> None:
        idle = self.world.idle
        if idle:
            weights = [VERIFIER_WEIGHT if isinstance(actor, Verifier) else 1 for actor in idle]
            self.world.turn(self.dice.random.choices(idle, weights)[0])
        self.world.advance(self.dice.random.choice((0.5, 1.0, 1.0, 20.0)))
        self._replace_dead()
        self._tend()
        self.watch()

    def _tend(self) -> None:
        """Clients that have no connection get one."""
        for client in self._arrived:
            if client.is_over:
                continue
            if client.gateway is not None and not client.gateway.is_alive:
                client.cut()
            gateways = [gateway for gateway in self.living(GatewayProcess) if gateway.has_begun]
            if not client.is_connected and client.due_ms <= self.world.now_ms and gateways:
                self.dice.random.choice(gateways).ask(client)

    def _disturb(self) -> None:
        chance = self.dice.random
        self.world.strike()
        for client in self.clients:
            if client.is_connected and not client.is_over and chance.random() < LEAVE_ODDS:
                absence_ms = chance.choice(ABSENCES_MS)
                client.leave(None if absence_ms is None else self.world.now_ms + absence_ms)
        verifiers = self.living(Verifier)
        if len(verifiers) > 1 and chance.random() < DRAIN_ODDS:
            self._drain(chance.choice(verifiers))

    def _drain(self, verifier: Verifier) -> None:
        within_ms = self.dice.random.choice(DRAINS_MS)
        self.world.let(verifier, lambda: verifier.drain(within_ms))

    def _replace_dead(self) -> None:
        for actor in [actor for actor in self.world.actors if not actor.is_alive]:
            if self.dice.is_calm or self.dice.random.random() < BIRTH_ODDS:
                self.world.actors.remove(actor)
                self.be_born(actor.name.partition(".")[0])

    def watch(self) -> None:
        """What holds at every moment."""
        for client in self.clients:
            check_prefix(client, self.models)
        if self.mishaps:
            raise Violation(f"a gateway's task failed: {self.mishaps[0]}")

    def _settle(self) -> None:
        """Nothing goes wrong any more: everything must come to its end by itself."""
        quiet, commits = 0, self.world.ledger.num_commits
        for _ in range(CALM_TURNS):
            self._turn()
            if self._is_settled():
                return
            quiet = quiet + 1 if commits == self.world.ledger.num_commits else 0
            commits = self.world.ledger.num_commits
            if quiet > 12:
                self.world.advance(250.0)
        raise Violation(f"not at rest: {self._unsettled()}")

    def _is_settled(self) -> bool:
        return not self._unsettled()

    def _unsettled(self) -> list[str]:
        open_clients = [client.request.request[-2:] for client in self.clients if not client.is_over]
        served = [
            f"{v.name} serves {len(v.scheduler.generations)}"
            for v in self.living(Verifier)
            if v.scheduler.generations
        ]
        return [f"client {name} waits" for name in open_clients] + served

    def _judge(self) -> Result:
        ends = Counter(check_end(client, self.world) for client in self.clients)
        for verifier in self.living(Verifier):
            if verifier.pool.num_free != verifier.pool.num_blocks:
                raise Violation(
                    f"{verifier.name} has lost {verifier.pool.num_blocks - verifier.pool.num_free} blocks"
                )
        counts = self.world.ledger.counts
        counts.update({f"blow {name}": count for name, count in self.world.blows.items()})
        return Result(ends, counts, self.world.num_turns, self.world.ledger.breaches)

    def close(self) -> None:
        self.dice.calm()
        for gateway in self.gateways:
            gateway.close()


def simulate(lab: Lab, seed: int) -> Result:
    """One run. Raises Violation."""
    lab.reset()
    run = Run(lab, seed)
    with injected(lab, run.world, run.mishaps):
        try:
            return run.play()
        finally:
            run.close()
