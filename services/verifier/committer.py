"""Making a step's tokens real: the commit, answered or repeated until it is (docs/protocol.md, scripts)."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Protocol

from services.verifier.batch import Settlement
from shared import signals
from shared.errors import BusUnavailable
from shared.failures import kind_of
from shared.inspection import InspectedStep
from shared.messages import DraftRequest
from shared.records import CommitRow, Origin
from shared.replies import Commit, CommitStatus, Reseeded, ReseedStatus
from shared.telemetry import Telemetry

logger = logging.getLogger(__name__)

Asked = tuple[DraftRequest, str | None, float]
Inspected = tuple[str, InspectedStep]

FIRST_PAUSE_S = 0.02
LONGEST_PAUSE_S = 0.5
MAX_REFUSALS = 8


class CommitBus(Protocol):
    """The part of the bus that commits."""

    def commit(
        self, rows: Sequence[CommitRow], asked: Asked | None, inspected: Sequence[Inspected] = ()
    ) -> tuple[Commit, bool]: ...

    def give_up(self, request: str, reason: str, position: int, digest: str) -> None: ...

    def reseed(
        self,
        request: str,
        origin: Origin,
        epoch: str,
        *,
        start: int,
        position: int,
        digest: str,
        tokens: bytes,
        logprobs: bytes,
        first_token_ms: float | None,
        last_token_ms: float | None,
        enqueued_ms: float,
    ) -> tuple[Reseeded, str]: ...


@dataclass(frozen=True, slots=True)
class Committed:
    """What became of a step: ``lost`` are not ours any more; ``asked`` tells whether the ask is on its way."""

    time_ms: float
    lost: list[Settlement]
    asked: bool


class Committer:
    """Commits until every row has a final answer. ``pause(seconds)`` is called between tries."""

    def __init__(self, bus: CommitBus, telemetry: Telemetry, pause: Callable[[float], bool]) -> None:
        self._bus = bus
        self._telemetry = telemetry
        self._pause = pause

    def commit(
        self, settlements: Sequence[Settlement], asked: Asked | None, inspected: Sequence[Inspected] = ()
    ) -> Committed:
        """Blocks while Redis is away: nothing may be sent, forgotten or computed before this is answered.

        The ask goes out with the first try only; after a connection error it is void. So is what is told of
        inspected requests.
        """
        lost: list[Settlement] = []
        pending, is_asked = list(settlements), asked is not None
        for num_tries in count(1):
            try:
                rows = [current_row(settlement) for settlement in pending]
                answer, has_reader = self._bus.commit(rows, asked, inspected)
                is_asked = is_asked and has_reader
                asked, inspected = None, ()
                again, gone = self._judge(pending, answer)
            except BusUnavailable as error:
                logger.warning("commit of %d rows is repeated: %s", len(pending), error)
                self._telemetry.add(signals.BUS_ERRORS, kind=kind_of(error))
                asked, inspected, is_asked = None, (), False
            else:
                lost += gone
                if again and num_tries >= MAX_REFUSALS and len(again) < len(settlements):
                    lost += self._give_up(again)
                    again = []
                if not again:
                    return Committed(answer.time_ms, lost, is_asked)
                pending = again
            if not self._pause(min(FIRST_PAUSE_S * 2 ** min(num_tries, 10), LONGEST_PAUSE_S)):
                raise BusUnavailable(f"stopped while {len(pending)} rows were uncommitted")
        raise AssertionError("count() has no end")

    def _judge(self, rows: list[Settlement], answer: Commit) -> tuple[list[Settlement], list[Settlement]]:
        """The rows to commit again, refused or restored after Redis forgot them, and the lost ones."""
        again: list[Settlement] = []
        lost: list[Settlement] = []
        for status, num_rows in Counter(answer.results).items():
            self._telemetry.add(signals.COMMITS, num_rows, status=status.value)
        for settlement, status in zip(rows, answer.results, strict=True):
            if status in (CommitStatus.OK, CommitStatus.SAME):
                generation = settlement.generation
                if generation.first_token_ms is None:
                    generation.first_token_ms = answer.time_ms
                if settlement.row.tokens:
                    generation.last_token_ms = answer.time_ms
            elif status is CommitStatus.ERROR:
                again.append(settlement)
            elif status in (CommitStatus.MISSING, CommitStatus.BEHIND):
                (again if self._restore(settlement) else lost).append(settlement)
            else:
                logger.info("request %s is not ours any more: %s", settlement.generation.id, status.value)
                lost.append(settlement)
        return again, lost

    def _give_up(self, refused: list[Settlement]) -> list[Settlement]:
        """Rows the server refuses while it takes others must not hold these up for ever: end their requests.

        Where it refuses everything, out of memory say, the whole step is held instead.
        """
        for settlement in refused:
            row = settlement.row
            self._telemetry.add(signals.DEAD_LETTERS, reason="poison")
            self._bus.give_up(row.request, "Redis refuses its tokens", row.start, row.start_digest)
        return refused

    def _restore(self, settlement: Settlement) -> bool:
        """Redis forgot: put the journal back as it was before this step; False when it is not ours to do."""
        generation, row = settlement.generation, settlement.row
        logger.warning("request %s: Redis forgot its journal, restoring it", generation.id)
        tokens, logprobs = generation.first_output(row.start - generation.num_prompt)
        answer, epoch = self._bus.reseed(
            generation.id,
            generation.origin,
            generation.epoch,
            start=generation.num_prompt,
            position=row.start,
            digest=row.start_digest,
            tokens=tokens,
            logprobs=logprobs,
            first_token_ms=generation.first_token_ms,
            last_token_ms=generation.last_token_ms,
            enqueued_ms=generation.enqueued_ms,
        )
        if answer.status is not ReseedStatus.OK:
            return False
        generation.epoch = epoch
        return True


def current_row(settlement: Settlement) -> CommitRow:
    """The row under the epoch its request has now: a reseed since the step has changed it."""
    epoch = settlement.generation.epoch
    return settlement.row if settlement.row.epoch == epoch else replace(settlement.row, epoch=epoch)
