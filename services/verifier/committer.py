"""Making a step's tokens real: the commit, answered or repeated until it is (RELIABILITY: the one rule)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from services.verifier.batch import Settlement
from shared import signals
from shared.errors import BusUnavailable
from shared.messages import DraftRequest
from shared.records import CommitRow, Origin
from shared.replies import Commit, CommitStatus, Reseeded, ReseedStatus
from shared.telemetry import Telemetry

logger = logging.getLogger(__name__)

Asked = tuple[DraftRequest, str | None, float]

FIRST_PAUSE_S = 0.02
LONGEST_PAUSE_S = 0.5


class CommitBus(Protocol):
    """The part of the bus that commits."""

    def commit(self, rows: Sequence[CommitRow], asked: Asked | None) -> tuple[Commit, bool]: ...

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
        first_token_ms: float | None,
    ) -> tuple[Reseeded, str]: ...


@dataclass(frozen=True, slots=True)
class Committed:
    """What became of a step: ``lost`` are not ours any more; ``asked`` tells whether the ask is on its way."""

    time_ms: float
    lost: list[Settlement]
    asked: bool


class Committer:
    """Commits until every row has a final answer. ``pause(seconds)`` is called between tries."""

    def __init__(self, bus: CommitBus, telemetry: Telemetry, pause: Callable[[float], object]) -> None:
        self._bus = bus
        self._telemetry = telemetry
        self._pause = pause

    def commit(self, settlements: Sequence[Settlement], asked: Asked | None) -> Committed:
        """Blocks while Redis is away: nothing may be sent, forgotten or computed before this is answered.

        The ask goes out with the first try only; after a connection error it is void.
        """
        lost: list[Settlement] = []
        pending, pause_s, is_asked = list(settlements), FIRST_PAUSE_S, asked is not None
        while True:
            try:
                answer, has_reader = self._bus.commit([current_row(settlement) for settlement in pending], asked)
                is_asked = is_asked and has_reader
                asked = None
                pending = self._again(pending, answer, lost)
            except BusUnavailable as error:
                logger.warning("commit of %d rows is repeated: %s", len(pending), error)
                asked, is_asked = None, False
            else:
                if not pending:
                    return Committed(answer.time_ms, lost, is_asked)
            self._pause(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _again(self, rows: list[Settlement], answer: Commit, lost: list[Settlement]) -> list[Settlement]:
        """The rows to commit again: refused by the server, or restored after Redis forgot them."""
        again = []
        for settlement, status in zip(rows, answer.results, strict=True):
            self._telemetry.add(signals.COMMITS, status=status.value)
            if status in (CommitStatus.OK, CommitStatus.SAME):
                generation = settlement.generation
                if generation.first_token_ms is None:
                    generation.first_token_ms = answer.time_ms
            elif status is CommitStatus.ERROR:
                again.append(settlement)
            elif status in (CommitStatus.MISSING, CommitStatus.BEHIND):
                (again if self._restore(settlement) else lost).append(settlement)
            else:
                logger.info("request %s is not ours any more: %s", settlement.generation.id, status.value)
                lost.append(settlement)
        return again

    def _restore(self, settlement: Settlement) -> bool:
        """Redis forgot: put the journal back as it was before this step; False when it is not ours to do."""
        generation, row = settlement.generation, settlement.row
        logger.warning("request %s: Redis forgot its journal, restoring it", generation.id)
        num_before = row.start - generation.num_prompt
        answer, epoch = self._bus.reseed(
            generation.id,
            generation.origin,
            generation.epoch,
            start=generation.num_prompt,
            position=row.start,
            digest=row.start_digest,
            tokens=generation.output[: 4 * num_before],
            first_token_ms=generation.first_token_ms,
        )
        if answer.status is not ReseedStatus.OK:
            return False
        generation.epoch = epoch
        return True


def current_row(settlement: Settlement) -> CommitRow:
    """The row under the epoch its request has now: a reseed since the step has changed it."""
    epoch = settlement.generation.epoch
    return settlement.row if settlement.row.epoch == epoch else replace(settlement.row, epoch=epoch)
