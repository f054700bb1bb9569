"""The simulated cell: one clock, one server, members that take turns, and everything that may go wrong.

Single-threaded: where a member waits or is suspended, others run inside that very call. So each command of one
member may have any number of whole turns of the others before and after it, and members come back as zombies.
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from redis.exceptions import ResponseError

from shared.errors import BusUnavailable
from shared.heartbeat import Heartbeat
from shared.topics import HEARTBEAT_TTL_MS, Keys
from shared.usage import Usage, total
from tests.faults.dice import Blow, Dice, HintFate
from tests.faults.ledger import Ledger
from tests.faults.line import Line, Words
from tests.faults.wire import Crash, Member, Process
from tests.used import usage_of

logger = logging.getLogger(__name__)

COMMAND_MS = 0.2
BEAT_MS = 600.0
SLICE_MS = 300.0
CUT_OFF_MS = (30.0, 400.0, 1500.0)
SNAPSHOT_ODDS = 0.08


class Actor(Member, Protocol):
    """A member of the cell."""

    name: str
    heartbeat: Heartbeat | None
    is_alive: bool
    is_suspended: bool
    is_slow_to_answer: bool
    has_begun: bool

    def turn(self) -> None:
        """One turn of its loop."""


class World:
    """One run's surroundings."""

    def __init__(self, line: Line, dice: Dice) -> None:
        self.line, self.dice, self.keys = line, dice, Keys("sim")
        self.redis = line.client
        self.now_ms = 1_000_000.0
        self.actors: list[Actor] = []
        self.gateways: dict[str, Process] = {}  # by name, dead ones too
        self.ledger = Ledger(self.has_heartbeat)
        self.blows: Counter[str] = Counter()
        self.num_crashes = 0
        self.num_turns = 0
        self._cut_off_until = 0.0
        self._busy: set[int] = set()
        self._beats: dict[str, float] = {}
        self._expires: dict[str, float] = {}
        self._held: list[Words] = []
        self._snapshot: list[tuple[bytes, bytes]] | None = None

    # -- time -------------------------------------------------------------------------------------------------
    def clock_ms(self) -> float:
        return self.now_ms

    def clock_s(self) -> float:
        return self.now_ms / 1000

    def advance(self, ms: float) -> None:
        """Time goes on: heartbeats are due, keys of those that do not beat expire."""
        while ms > 0:
            self.now_ms += min(ms, SLICE_MS)
            ms -= SLICE_MS
            self._beat()
            self._expire()

    def _beat(self) -> None:
        for actor in list(self.actors):
            is_due = self._beats.get(actor.name, 0.0) <= self.now_ms
            if actor.heartbeat is None or actor.is_suspended or not actor.is_alive or not is_due:
                continue
            self._beats[actor.name] = self.now_ms + BEAT_MS
            try:
                actor.heartbeat.beat()
            except BusUnavailable:
                self._beats[actor.name] = self.now_ms + BEAT_MS / 2
            else:
                actor.has_begun = True  # a process does nothing before its first heartbeat is answered

    def _expire(self) -> None:
        over = [key for key, at in self._expires.items() if at <= self.now_ms]
        if over:
            self.redis.delete(*over)
        for key in over:
            del self._expires[key]

    def note_expiry(self, key: str, ttl_ms: float) -> None:
        """A heartbeat was set: it lives so long by the world's clock."""
        self._expires[key] = self.now_ms + ttl_ms

    def has_heartbeat(self, verifier: str) -> bool:
        return self._expires.get(self.keys.heartbeat("verifier", verifier), 0.0) > self.now_ms

    # -- turns ------------------------------------------------------------------------------------------------
    def turn(self, actor: Actor) -> None:
        """One turn of a member, which may be its last."""
        self.num_turns += 1
        self.let(actor, actor.turn)

    def let(self, actor: Actor, act: Callable[[], None]) -> None:
        """The member acts, alone as a thread does, and may be killed meanwhile."""
        self._busy.add(id(actor))
        try:
            act()
        except Crash:
            actor.is_alive = False
        finally:
            self._busy.discard(id(actor))

    @property
    def idle(self) -> list[Actor]:
        """Members that could run now."""
        return [
            actor
            for actor in self.actors
            if actor.is_alive and actor.has_begun and not actor.is_suspended and id(actor) not in self._busy
        ]

    def others(self, until_ms: float, most: int) -> None:
        """Others take turns while somebody waits."""
        for _ in range(most):
            idle = self.idle
            if not idle or self.now_ms >= until_ms:
                return
            self.turn(self.dice.random.choice(idle))
            self.advance(1.0)

    def waits(self, member: Any, block_ms: float) -> None:
        """A blocking read: the ring gets its chance; a member without work just lets time pass."""
        if not member.is_slow_to_answer:
            self.advance(1.0)
            return
        until_ms = self.now_ms + block_ms
        for actor in [actor for actor in self.idle if not actor.is_slow_to_answer]:
            if actor in self.idle and self.now_ms < until_ms:
                self.turn(actor)
        if self.dice.random.random() < 0.1:
            self.others(until_ms, most=4)

    def sleeps(self, member: Any) -> None:
        """The member is suspended as by SIGSTOP, its heartbeat too, while the world goes on."""
        pause_ms = self.dice.pause_ms()
        self.ledger.counts["zombie" if pause_ms > HEARTBEAT_TTL_MS else "nap"] += 1
        member.is_suspended = True
        until_ms = self.now_ms + pause_ms
        for _ in range(8):
            self.others(until_ms, most=4)
            self.advance(max(0.0, min(until_ms - self.now_ms, pause_ms / 8)))
        self.advance(max(0.0, until_ms - self.now_ms))
        member.is_suspended = False

    def crashes(self, member: Any) -> None:
        """It is killed; its heartbeat goes on until it expires."""
        self.num_crashes += 1
        self.ledger.counts["crash"] += 1
        member.is_alive = False
        if self.num_crashes >= self.dice.odds.max_crashes:
            for actor in self.actors:
                actor.may_crash = False

    # -- the wire ---------------------------------------------------------------------------------------------
    @property
    def is_cut_off(self) -> bool:
        return self.now_ms < self._cut_off_until

    def passes(self) -> None:
        """A command is about to be sent."""
        self.now_ms += COMMAND_MS
        while self._held and (self.dice.is_calm or self.dice.random.random() < 0.2):
            command = self._held.pop(0)
            with contextlib.suppress(ResponseError):
                self.observe(command, self.line.run(command, {}))

    def puts_off(self, commands: Sequence[Words]) -> None:
        """Run them some commands later."""
        self.ledger.counts["late"] += 1
        self._held += commands

    def send_hint(self, command: Words) -> bool:
        """Whether this hint is to be sent now, once more."""
        fate = self.dice.hint_fate()
        if fate is HintFate.DOUBLED:
            self.redis.execute_command(*command)
        if fate is HintFate.HELD:
            self._held.append(command)
        return fate in (HintFate.FINE, HintFate.DOUBLED)

    def observe(self, command: Words, reply: Any) -> None:
        self.ledger.observe(command, reply)

    # -- the server -------------------------------------------------------------------------------------------
    def strike(self) -> None:
        """Between turns: perhaps something happens to the server."""
        odds = self.dice.odds
        if odds.forgets and not self.dice.is_calm and self.dice.random.random() < SNAPSHOT_ODDS:
            self._take_snapshot()
        blow = self.dice.blow()
        if blow is not None:
            self.blows[blow] += 1
            {
                Blow.FLUSH: self._flush,
                Blow.ROLLBACK: self._rollback,
                Blow.FUNCTIONS: self.redis.function_flush,
                Blow.STREAM: self._lose_stream,
                Blow.CUT_OFF: self._cut_off,
            }[blow]()

    def _take_snapshot(self) -> None:
        names = sorted(self.redis.keys())
        dumps = self.line.run_all([(("DUMP", name), {}) for name in names])
        self._snapshot = list(zip(names, dumps, strict=True))

    def _flush(self) -> None:
        self.redis.flushall()
        self._expires.clear()
        self.ledger.forget(Usage())

    def _rollback(self) -> None:
        if self._snapshot is None:
            return
        self.redis.flushall()
        for key, value in self._snapshot:
            self.redis.restore(key, 0, value)
        restored = {key.decode() for key in self.redis.keys(f"{self.keys.prefix}heartbeat:*")}
        over = restored - self._expires.keys()
        if over:
            self.redis.delete(*over)
        self._expires = {key: at for key, at in self._expires.items() if key in restored}
        self.ledger.forget(self.used)

    @property
    def used(self) -> Usage:
        """What Redis has on account."""
        return total(usage_of(self.redis, self.keys).values())

    def _lose_stream(self) -> None:
        kinds = (self.keys.draft("*"), self.keys.verify("*"), self.keys.tokens("*"), self.keys.select)
        found = sorted(key for kind in kinds for key in self.redis.keys(kind))
        if found:
            self.redis.delete(self.dice.random.choice(found))

    def _cut_off(self) -> None:
        self._cut_off_until = self.now_ms + self.dice.random.choice(CUT_OFF_MS)
