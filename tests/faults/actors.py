"""The members of a simulated cell, each around the real objects that its process would build."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from services.drafter.drafter import Drafter
from services.drafter.handler import DraftHandler
from services.selector.control import PolicySettings
from services.selector.handler import Selector
from services.selector.profiles import redis_loader
from services.verifier.ask import Control
from services.verifier.bus import VerifierBus
from services.verifier.engine import Engine, Senses
from services.verifier.generation import Generation
from services.verifier.governor import Governor
from services.verifier.intake import Intake
from services.verifier.ring import Ring
from services.verifier.scheduler import Scheduler
from services.verifier.speculator import Speculator
from shared.errors import BusUnavailable
from shared.grammar import no_grammars
from shared.heartbeat import Heartbeat, Pulse, live_members
from shared.inference.blocks import BlockPool, SequenceSlots
from shared.inference.plan import ForwardPlan
from shared.inference.prefixes import PrefixCache
from shared.latency import LatencyModel
from shared.streams import GroupReader, HintReader, OwnedStream
from shared.telemetry import Telemetry
from shared.tokenizer import Tokenizer
from shared.topics import DRAFT, SELECT, SELECTOR_GROUP
from shared.worker import Worker
from tests.faults.wire import Wire
from tests.faults.world import World
from tests.table_model import TableModel, TableRunner

TABLE = LatencyModel(tokens=(1, 32, 64), ms=(1.0, 2.0, 4.0))
VOCAB = 12
BLOCK_SIZE = 4
FORWARD_MS = 2.0


class SlowRunner(TableRunner):
    """A forward pass takes time, in which heartbeats go on."""

    world: World

    def logits(self, plan: ForwardPlan) -> Any:
        self.world.advance(FORWARD_MS)
        return super().logits(plan)


class Process:
    """What all members have in common."""

    is_slow_to_answer = False

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.wire = Wire(world, self)
        self.heartbeat: Heartbeat | None = None
        self.is_alive, self.is_suspended, self.has_begun = True, False, False
        self.may_crash = self.may_sleep = world.num_crashes < world.dice.odds.max_crashes


class Nerve:
    """The heartbeat's own connection: what happens there does not kill or suspend the process."""

    may_crash = may_sleep = is_slow_to_answer = False


class Verifier(Process):
    """A whole verifier with a table model for a target."""

    is_slow_to_answer = True  # it waits for the ring, whose members run meanwhile

    def __init__(
        self, world: World, name: str, model: TableModel, telemetry: Telemetry, tokenizer: Tokenizer
    ) -> None:
        super().__init__(world, name)
        chance = world.dice.random
        self.is_draining = False
        self.bus = VerifierBus(self.wire, self.wire, world.keys, name)
        num_blocks = chance.choice((12, 24, 64))
        self.pool = BlockPool(num_blocks, BLOCK_SIZE)
        self.scheduler = Scheduler[Generation](self.pool, max_running=chance.randint(1, 5), prefill_chunk=8)
        self.ring = Ring(0, 250.0)
        self.heartbeat = Heartbeat(
            "",
            world.keys,
            "verifier",
            name,
            lambda: {"ready": not self.is_draining},
            [OwnedStream(self.bus.verify_stream)],
            on_recreated=self.bus.reset_hints,
            clock=world.clock_s,
        )
        runner = SlowRunner(model, num_blocks * BLOCK_SIZE)
        runner.world = world
        self.engine = Engine(
            self.bus,
            runner,
            self.scheduler,
            self._speculator(telemetry),
            Intake(
                tokenizer,
                lambda: SequenceSlots(self.pool),
                no_grammars,
                prefixes := PrefixCache(self.pool),
                vocab_size=VOCAB,
                context_limit=num_blocks * BLOCK_SIZE,
                eos_token_ids=frozenset(),
            ),
            TABLE,
            telemetry,
            self._senses(self.heartbeat),
            prefixes,
        )
        self.is_started = False

    def _speculator(self, telemetry: Telemetry) -> Speculator:
        return Speculator(
            self.ring,
            Governor(),
            telemetry,
            verifier=self.name,
            token_map="map",
            model="table",
            profile=TABLE.version,
            control=Control(depth=3, width=2),
            vocab_size=VOCAB,
            max_nodes=512,
        )

    def _senses(self, heartbeat: Heartbeat) -> Senses:
        return Senses(
            clock_ms=self.world.clock_ms,
            redis_ms=self.world.clock_ms,
            on_time_for=heartbeat.on_time_for,
            pause=self._pause,
            pulse=Pulse(self.world.clock_s),
        )

    def _pause(self, seconds: float) -> bool:
        until_ms = self.world.now_ms + 1000 * seconds
        if self.world.dice.random.random() < 0.3:
            self.world.others(until_ms, most=3)
        self.world.advance(max(0.0, until_ms - self.world.now_ms))
        return False

    def turn(self) -> None:
        """One turn of the engine as `run` takes it, with its own answer to a bus that is away."""
        if not self.is_started:
            self.is_started = self._start()
            return
        steps = iter((False, True))
        self.engine.run(lambda: next(steps))
        if self.ring.is_open:
            self.world.ledger.counts["fallback"] += 1

    def _start(self) -> bool:
        try:
            self.bus.start()
        except BusUnavailable:
            return False
        return True

    def drain(self, within_ms: float) -> None:
        """As at SIGTERM, with so long to serve on; what could not be given back is taken over."""
        self.world.ledger.counts["drain"] += 1
        self.is_draining, until_ms = True, self.world.now_ms + within_ms
        self.engine.drain(lambda: self.world.now_ms >= until_ms)
        self.is_alive = False


class Turning(Worker[Any]):
    """A worker that the world turns, one turn at a time."""

    def turn(self) -> bool:
        try:
            return self._turn()
        except BusUnavailable:
            return False


class Helper(Process):
    """Drafter or selector: whatever it does is a hint."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        self.worker: Turning | None = None

    def turn(self) -> None:
        assert self.worker is not None
        for _ in range(3):
            if not self.worker.turn():
                return


class DrafterProcess(Helper):
    """A drafter over a noisy copy of the target."""

    def __init__(self, world: World, name: str, telemetry: Telemetry, noise: float) -> None:
        super().__init__(world, name)
        num_blocks = world.dice.random.choice((4, 64))
        self.pool = BlockPool(num_blocks, BLOCK_SIZE)
        runner = TableRunner(TableModel(VOCAB, seed=1, noise=noise), num_blocks * BLOCK_SIZE)
        drafter = Drafter(runner, self.pool, max_tokens=64, catch_up=6, warm_chunk=5, clock=world.clock_s)
        reader = HintReader(self.wire, [world.keys.draft(name)])
        self.worker = Turning(
            reader,
            DraftHandler(
                drafter,
                world.keys,
                telemetry,
                lambda: live_members(self.wire, world.keys, "verifier"),
                clock=world.clock_s,
                draft_ahead="on",
            ),
            client=self.wire,
            decode=DRAFT.decode,
            key=lambda message: (message.verifier, message.ring),
            hop="draft",
            telemetry=telemetry,
            burst=True,
            wall_ms=world.clock_ms,
        )
        self.heartbeat = Heartbeat(
            "",
            world.keys,
            "drafter",
            name,
            lambda: {"token_map": "map", "model": "draft", "load": 0},
            [OwnedStream(world.keys.draft(name))],
            on_recreated=reader.reset,
            clock=world.clock_s,
        )


class SelectorProcess(Helper):
    """A selector with the paper's policy, which speculates whatever it costs."""

    def __init__(self, world: World, name: str, telemetry: Telemetry) -> None:
        super().__init__(world, name)
        self.worker = Turning(
            GroupReader(self.wire, world.keys.select, SELECTOR_GROUP, name),
            Selector(
                world.keys, PolicySettings(policy="paper"), redis_loader(self.wire, world.keys), telemetry, None
            ),
            client=self.wire,
            decode=SELECT.decode,
            key=lambda message: (message.verifier, message.ring),
            hop="select",
            telemetry=telemetry,
            burst=True,
            wall_ms=world.clock_ms,
        )
        self.heartbeat = Heartbeat(
            "",
            world.keys,
            "selector",
            name,
            lambda: {"policy": "paper"},
            [OwnedStream(world.keys.select, SELECTOR_GROUP)],
            clock=world.clock_s,
        )


def names(kind: str) -> Iterator[str]:
    """Members' names; a restarted process is another member."""
    number = 0
    while True:
        number += 1
        yield f"{kind}.{number}"
