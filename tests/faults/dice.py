"""What goes wrong and when: every decision of one run comes from its seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum

PAUSES_MS = (40.0, 300.0, 1300.0, 2500.0, 6000.0)
"""How long a suspended member sleeps: shorter and longer than a heartbeat lives."""


class Fate(StrEnum):
    """What becomes of one command of one member."""

    FINE = "fine"
    LOST = "lost"  # it never reached the server
    UNANSWERED = "unanswered"  # it took effect, its reply did not come back
    LATE = "late"  # given up by its sender, and run later all the same: it lay in a stopped server's socket
    CRASH_BEFORE = "crash_before"
    CRASH_AFTER = "crash_after"
    SLEEP_BEFORE = "sleep_before"
    SLEEP_AFTER = "sleep_after"


class HintFate(StrEnum):
    """What becomes of one hint on its way."""

    FINE = "fine"
    LOST = "lost"
    DOUBLED = "doubled"
    HELD = "held"  # comes later, behind newer ones


class Blow(StrEnum):
    """What happens to the server as a whole."""

    FLUSH = "flush"  # all data is gone
    ROLLBACK = "rollback"  # back to an earlier moment, as after a truncated append-only file
    FUNCTIONS = "functions"  # the script library is gone
    STREAM = "stream"  # a member's own stream is gone
    CUT_OFF = "cut_off"  # for a while nobody reaches the server


@dataclass(frozen=True, slots=True, kw_only=True)
class Odds:
    """Chances of one run, drawn once, so that some runs are calm and others are not."""

    command: float
    hint: float
    blow: float
    forgets: bool
    ties: bool
    max_crashes: int
    grace_s: float  # how long a client that has left may stay away: for ever, or not at all by Redis' real clock


class Dice:
    """The seeded source of all chance in a run. Quiet once `calm` is called: then nothing goes wrong any more."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        draw = self.random
        self.odds = Odds(
            command=draw.choice((0.0, 0.003, 0.01, 0.02)),
            hint=draw.choice((0.0, 0.02, 0.15)),
            blow=draw.choice((0.0, 0.004, 0.02)),
            forgets=draw.random() < 0.35,
            ties=draw.random() < 0.5,
            max_crashes=draw.randint(0, 4),
            grace_s=draw.choice((0.0, 1e6)),
        )
        self.is_calm = False

    def calm(self) -> None:
        self.is_calm = True

    def fate(self, *, may_crash: bool, may_sleep: bool, weight: float = 1.0) -> Fate:
        """Of one command; ``weight`` raises the odds of those that matter most."""
        if self.is_calm or self.random.random() >= weight * self.odds.command:
            return Fate.FINE
        fates = [Fate.LOST, Fate.UNANSWERED, Fate.LATE]
        if may_crash:
            fates += [Fate.CRASH_BEFORE, Fate.CRASH_AFTER]
        if may_sleep:
            fates += [Fate.SLEEP_BEFORE, Fate.SLEEP_AFTER]
        return self.random.choice(fates)

    def hint_fate(self) -> HintFate:
        """Of one hint."""
        if self.is_calm or self.random.random() >= self.odds.hint:
            return HintFate.FINE
        return self.random.choice((HintFate.LOST, HintFate.DOUBLED, HintFate.HELD))

    def blow(self) -> Blow | None:
        """To the server, after a turn."""
        if self.is_calm or self.random.random() >= self.odds.blow:
            return None
        blows = [Blow.FUNCTIONS, Blow.STREAM, Blow.CUT_OFF]
        if self.odds.forgets:
            blows += [Blow.FLUSH, Blow.ROLLBACK, Blow.ROLLBACK]
        return self.random.choice(blows)

    def token_fate(self) -> HintFate:
        """Of one entry that a gateway reads from its stream; there is no later there, only another order."""
        if self.is_calm or self.random.random() >= self.odds.hint / 3:
            return HintFate.FINE
        return self.random.choice((HintFate.LOST, HintFate.DOUBLED, HintFate.HELD))

    def pause_ms(self) -> float:
        return self.random.choice(PAUSES_MS)


class Secrets:
    """Stands in for the module `secrets`, so that epochs and jitter repeat with the seed."""

    def __init__(self, source: random.Random) -> None:
        self._source = source

    def randbits(self, bits: int) -> int:
        return self._source.getrandbits(bits)

    def randbelow(self, limit: int) -> int:
        return self._source.randrange(limit)

    def token_hex(self, num_bytes: int) -> str:
        return self._source.getrandbits(8 * num_bytes).to_bytes(num_bytes).hex()
