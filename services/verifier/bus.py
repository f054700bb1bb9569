"""Everything the verifier says to Redis and hears from it. The engine knows no commands, keys or clients.

Writes are repeated only where that is safe: a commit is answered SAME the second time, a claim by the same epoch
is answered again, an ask is not repeated at all.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from redis import Redis

from shared import codec
from shared.errors import BusUnavailable, UnreadableMessage
from shared.failures import bus_errors, classify
from shared.functions import Command
from shared.heartbeat import has_dead, live_members
from shared.inspect_store import note, tell_live
from shared.inspection import InspectedStep, LiveVerifier
from shared.label_store import Packed, read_labels
from shared.labels import LabelCounts
from shared.latency import LatencyModel
from shared.messages import ControlEvent, DraftRequest, SelectedTrees, TokenEvent
from shared.mode_store import read_orders
from shared.modes import Orders
from shared.records import CommitRow, Origin
from shared.scripts import (
    Claim,
    ClaimStatus,
    Commit,
    Released,
    Reseeded,
    Terminal,
    add_labels,
    call,
    cancel,
    claim,
    commit,
    new_epoch,
    release,
    reseed,
)
from shared.streams import Entry, HintReader, hint, send
from shared.topics import CONTROL, VERIFY, Keys
from shared.work import WorkReader, orphans, owned_by

logger = logging.getLogger(__name__)

PROFILE_TTL_S = 30
MAX_LABELS = 8192  # half a minute of a busy server: enough for a fit, few enough to follow a drift
_NO_TOKENS = np.empty(0, np.int32)


@dataclass(frozen=True, slots=True)
class Claimed:
    """A request this verifier now owns under ``epoch``."""

    request: str
    epoch: str
    claim: Claim


@dataclass(frozen=True, slots=True)
class Heard:
    """What arrived, in order, and how many hints were unreadable. Which reply counts is for the ring to say.

    Each with the time at which it was sent, ms by its sender's wall clock: for telemetry only.
    """

    replies: list[tuple[SelectedTrees, float]]
    control: list[tuple[ControlEvent, float]]
    num_unreadable: int = 0


class VerifierBus:
    """One verifier's connections: ``client`` for commands, ``blocking`` for reads that wait.

    ``max_labels`` of a temperature bucket are kept before all of them are halved.
    """

    def __init__(
        self, client: Redis, blocking: Redis, keys: Keys, verifier: str, *, max_labels: int = MAX_LABELS
    ) -> None:
        self._client = client
        self._keys = keys
        self._max_labels = max_labels
        self.verifier = verifier
        self._work = WorkReader(client, keys, verifier)
        self._idle_work = WorkReader(blocking, keys, verifier)
        self.verify_stream = keys.verify(verifier)
        self._hints = HintReader(blocking, [self.verify_stream], latest=[keys.control])
        self._num_reads = 0
        self.num_poisoned = 0  # requests that have ended three owners

    def start(self) -> None:
        """Create the work groups. Raises BusUnavailable."""
        self._work.create_groups()

    def redis_ms(self) -> float:
        """Redis' clock. Raises BusUnavailable."""
        with bus_errors():
            seconds, micros = self._client.time()
        return float(seconds) * 1e3 + micros / 1e3

    def reset_hints(self, stream: str) -> None:
        """The own stream was recreated: read it from its beginning."""
        self._hints.reset(stream)

    def publish_profile(self, table: LatencyModel) -> None:
        """Store the latency model under its version, for PROFILE_TTL_S; repeat it before then."""
        with bus_errors():
            key = self._keys.profile(self.verifier, table.version)
            self._client.set(key, table.to_bytes(), ex=PROFILE_TTL_S)

    # -- work -------------------------------------------------------------------------------------------------
    def take(self, count: int, block_ms: float | None = None) -> list[Claimed]:
        """Claim up to ``count`` requests; every 16th read begins at the lowest tier. Raises BusUnavailable."""
        self._num_reads += 1
        reader = self._work if block_ms is None else self._idle_work
        with self._not_losing_entries():
            entries = reader.read(count, start_lowest=self._num_reads % 16 == 0, block_ms=block_ms)
        return self._claim_entries(entries)

    def take_orphans(self, live: Collection[str], known: Container[str], count: int) -> list[Claimed]:
        """Claim what verifiers without a heartbeat own or have read. Raises BusUnavailable.

        Also what this verifier owns without being in ``known``: a claim of its own whose reply was lost.
        """
        with self._not_losing_entries():
            entries = self._work.reclaim(live)
        claimed = self._claim_entries(entries)
        mine = [lost for lost in owned_by(self._client, self._keys, self.verifier) if lost.request not in known]
        taken = {claim.request for claim in claimed}
        for orphan in [*mine, *orphans(self._client, self._keys, live)]:
            if orphan.request not in taken and len(claimed) < count:
                claimed += self._claim(orphan.request, expected_owner=orphan.owner, expected_epoch=orphan.epoch)
        return claimed

    def _claim_entries(self, entries: list[tuple[str, Entry]]) -> list[Claimed]:
        claimed = []
        try:
            with self._not_losing_entries():
                for stream, entry in entries:
                    claimed += self._claim(entry.body.decode(), entry_id=entry.id, stream=stream)
        except BusUnavailable:
            logger.warning("claims interrupted: %d of %d entries claimed", len(claimed), len(entries))
        return claimed

    @contextmanager
    def _not_losing_entries(self) -> Iterator[None]:
        """Where a reply was lost, entries may be pending here unseen: the next reader looks at them first.

        Nobody else takes them while this verifier lives.
        """
        try:
            yield
        except BusUnavailable:
            self._work.recover()
            self._idle_work.recover()
            raise

    def _claim(self, request: str, **expected: str) -> list[Claimed]:
        epoch = new_epoch()
        claimed = call(
            self._client, claim(self._keys, request=request, verifier=self.verifier, epoch=epoch, **expected)
        )
        if claimed.status is ClaimStatus.POISON:
            self.num_poisoned += 1
            self.give_up(request, "three owners died without progress", claimed.position, claimed.digest)
        if claimed.status is not ClaimStatus.OK:
            return []
        return [Claimed(request, epoch, claimed)]

    def give_up(self, request: str, reason: str, position: int, digest: str) -> None:
        """End a request nobody can serve: dead letter, and a terminal error for the client."""
        event = _end(request, "error", position, digest, error=reason[:1024])
        poison = cancel(self._keys, request=request, event=event, status=Terminal.POISONED, dead_reason=reason)
        call(self._client, poison)

    def expire(self, request: str, position: int, digest: str) -> None:
        """End a request that nobody waits for any more."""
        event = _end(request, "expired", position, digest)
        call(self._client, cancel(self._keys, request=request, event=event, finish="expired"))

    def release(self, request: str, epoch: str, stats: bytes = b"") -> Released:
        """Give a request back to the queue, with what is to be told of the work on it."""
        back = release(self._keys, request=request, verifier=self.verifier, epoch=epoch, stats=stats)
        return call(self._client, back)

    # -- hints ------------------------------------------------------------------------------------------------
    def hear(self, block_ms: float | None) -> Heard:
        """Read replies and control; None does not wait. Raises BusUnavailable."""
        entries = self._hints.read(block_ms)
        replies: list[tuple[SelectedTrees, float]] = []
        num_unreadable = 0
        for entry in entries.get(self.verify_stream, ()):
            try:
                replies.append((VERIFY.decode(entry.body), entry.sent_at))
            except UnreadableMessage as error:
                logger.warning("dropped hint: %s", error)
                num_unreadable += 1
        control = []
        for entry in entries.get(self._keys.control, ()):
            try:
                control.append((CONTROL.decode(entry.body), entry.sent_at))
            except UnreadableMessage as error:
                logger.warning("dropped control event: %s", error)
                num_unreadable += 1
        return Heard(replies, control, num_unreadable)

    def live_verifiers(self) -> list[str]:
        """Verifiers with a heartbeat. Raises BusUnavailable."""
        return list(live_members(self._client, self._keys, "verifier"))

    def has_dead_verifier(self) -> bool:
        """Whether a verifier has no heartbeat and has not been forgotten. Raises BusUnavailable."""
        return has_dead(self._client, self._keys, "verifier")

    def successors(self) -> list[str]:
        """Other verifiers that would take a request now: not about to stop, not full. Raises BusUnavailable."""
        live = live_members(self._client, self._keys, "verifier")
        return [name for name, about in live.items() if name != self.verifier and _takes_work(about)]

    def live_drafters(self) -> dict[str, dict[str, Any]]:
        """Drafters with a heartbeat and what they say of themselves. Raises BusUnavailable."""
        return live_members(self._client, self._keys, "drafter")

    def orders(self) -> Orders | None:
        """Operators' orders; None when they cannot be read, so that those known stay. Raises BusUnavailable."""
        try:
            return read_orders(self._client, self._keys)
        except UnreadableMessage as error:
            logger.warning("verification modes stay as they are: %s", error)
            return None

    def exchange_labels(self, pair: str, counts: LabelCounts, kept: float = 1.0) -> Packed:
        """Add label counts of a model pair, and read what all verifiers know of it. Raises BusUnavailable.

        `kept` is the share of the usual number of labels that are kept: less, and the old ones fade sooner.
        """
        packed = counts.pack()
        if packed:
            cap = max(1, round(kept * self._max_labels))
            call(self._client, add_labels(self._keys, pair=pair, packed=packed, cap=cap))
        return read_labels(self._client, self._keys, pair)

    def ask(self, message: DraftRequest, traceparent: str | None, now_ms: float) -> bool:
        """Send a DraftRequest alone; False when its reader is gone. Raises BusUnavailable."""
        (reply,) = send(self._client, [self._ask(message, traceparent, now_ms)])
        return _is_read(reply)

    def _ask(self, message: DraftRequest, traceparent: str | None, now_ms: float) -> Command:
        stream = self._keys.draft(message.drafter)
        return hint(stream, codec.encode(message), traceparent=traceparent, now_ms=now_ms)

    # -- for people to look at --------------------------------------------------------------------------------
    def is_watched(self) -> bool:
        """Whether somebody looks at the cell now. Raises BusUnavailable."""
        with bus_errors():
            return bool(self._client.exists(self._keys.watched))

    def tell_live(self, message: LiveVerifier) -> None:
        """Say what this verifier does. Raises BusUnavailable; what Redis refuses is no matter."""
        send(self._client, [tell_live(self._keys, self.verifier, message)])

    # -- commit -----------------------------------------------------------------------------------------------
    def commit(
        self,
        rows: Sequence[CommitRow],
        asked: tuple[DraftRequest, str | None, float] | None,
        inspected: Sequence[tuple[str, InspectedStep]] = (),
    ) -> tuple[Commit, bool]:
        """Commit the rows and, in the same write, ask for the next trees. Raises BusUnavailable.

        Returns the commit's answers and whether the ask has a reader. After BusUnavailable the caller commits
        again, without the ask. What is told of inspected requests stands before the ask, so that whoever reads it
        finds an iteration's end before the next one's trees; what becomes of it is no matter.
        """
        committing = commit(self._keys, verifier=self.verifier, rows=rows)
        commands: list[Command] = [committing.command()]
        commands += [command for request, step in inspected for command in note(self._keys, request, step)]
        if asked is not None:
            commands.append(self._ask(*asked))
        replies = send(self._client, commands)
        return committing.parse(replies[0]), asked is None or _is_read(replies[-1])

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
    ) -> tuple[Reseeded, str]:
        """Restore a journal that Redis has lost; returns the answer and the new epoch. Raises BusUnavailable."""
        fresh = new_epoch()
        answer = call(
            self._client,
            reseed(
                self._keys,
                request=request,
                origin=origin,
                start=start,
                position=position,
                digest=digest,
                tokens=tokens,
                logprobs=logprobs,
                first_token_ms=first_token_ms,
                last_token_ms=last_token_ms,
                enqueued_ms=enqueued_ms,
                owner=self.verifier,
                owner_epoch=epoch,
                epoch=fresh,
            ),
        )
        return answer, fresh


def _takes_work(about: Mapping[str, Any]) -> bool:
    load = about.get("load", 0.0)
    return about.get("ready", True) is True and isinstance(load, int | float) and load < 1.0


def _end(request: str, finish: str, position: int, digest: str, error: str | None = None) -> bytes:
    """An encoded terminal event without tokens."""
    event = TokenEvent(
        request=request,
        start=position,
        tokens=_NO_TOKENS,
        digest=bytes.fromhex(digest),
        finish=finish,
        text_length=-1,
        stats=None,
        error=error,
    )
    return codec.encode(event)


def _is_read(reply: Any) -> bool:
    if isinstance(reply, Exception):
        logger.warning("ask failed: %s", classify(reply))
        return False
    return reply is not None
