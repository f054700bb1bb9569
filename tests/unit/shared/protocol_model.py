"""The script contracts of docs/protocol.md as plain Python over dictionaries: what Redis must agree with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from shared.scripts import (
    Cancelled,
    ClaimStatus,
    CommitRow,
    CommitStatus,
    Contradiction,
    Enqueued,
    Left,
    Released,
    ReseedStatus,
)
from shared.usage import Usage
from tests.unit.shared.queue_model import Charge, TierQueue

RELEASED = "released"
POISON_AT = 3


@dataclass
class Held:
    """One request's hash and journal. `queue` is where it waits, or waited last."""

    queue: str
    tier: str
    position: int
    digest: str
    gateway: str
    claimed_position: int
    status: str = "queued"
    owner: str = ""
    epoch: str = "0"
    crash_claims: int = 0
    journal: list[tuple[int, bytes]] = field(default_factory=list)
    has_first_token: bool = False
    attachment: int = 1
    terminal: bytes = b""
    num_prompt: int = 0

    def __post_init__(self) -> None:
        self.num_prompt = self.num_prompt or self.position

    @property
    def has_ended(self) -> bool:
        return self.status in ("finished", "cancelled", "poisoned")


@dataclass
class Model:
    """A whole cell. `name` finds the entry that the real server has just given a request in a queue."""

    tiers: dict[str, TierQueue]
    name: Callable[[str, str], str]
    requests: dict[str, Held] = field(default_factory=dict)
    released: dict[str, str] = field(default_factory=dict)  # entry id -> request
    owned: dict[str, set[str]] = field(default_factory=dict)
    live: set[str] = field(default_factory=set)
    events: dict[str, list[bytes]] = field(default_factory=dict)
    abandoned: dict[str, bool] = field(default_factory=dict)  # request -> whether its grace is over
    usage: Usage = field(default_factory=Usage)  # of all that has ended

    def stream(self, queue: str) -> dict[str, str]:
        """What verifiers can read of a queue: request by entry id."""
        return self.released if queue == RELEASED else self.tiers[queue].stream

    def entry(self, request: str) -> str:
        """The request's entry in its queue, empty where it has none."""
        held = self.requests[request]
        return next((entry for entry, other in self.stream(held.queue).items() if other == request), "")

    def count(self, held: Held) -> None:
        """It has just ended."""
        output = held.position - held.num_prompt
        steps = len(held.journal)
        self.usage += Usage(requests=1, prompt_tokens=held.num_prompt, output_tokens=output, steps=steps)

    def _release(self, request: str) -> None:
        self.requests[request].queue = RELEASED
        self.released[self.name(RELEASED, request)] = request

    def unqueue(self, request: str) -> None:
        """It waits no more."""
        self.released = {entry: other for entry, other in self.released.items() if other != request}
        for tier in self.tiers.values():
            tier.remove(request)

    def _discard(self, queue: str, entry: str) -> None:
        """An entry that stands for no work; of a tier there is none, as only scripts take entries out."""
        if entry and queue == RELEASED:
            self.released.pop(entry, None)

    def _own(self, request: str, owner: str) -> None:
        held = self.requests[request]
        self.owned.get(held.owner, set()).discard(request)
        held.owner = owner
        if owner:
            self.owned.setdefault(owner, set()).add(request)

    def _publish(self, gateway: str, event: bytes) -> None:
        if gateway:
            self.events.setdefault(gateway, []).append(event)

    def enqueue(
        self,
        request: str,
        queue: str,
        charge: Charge,
        limit: int,
        share: float,
        position: int,
        digest: str,
        gateway: str,
    ) -> Enqueued:
        if request in self.requests:
            return Enqueued.EXISTS
        verdict = self.tiers[queue].room(charge.tenant, limit, share)
        if verdict is Enqueued.OK:
            self.requests[request] = Held(queue, queue, position, digest, gateway, position)
            self.tiers[queue].add(request, charge)
        return verdict

    def claim(
        self, request: str, verifier: str, owner: str, expected: str, epoch: str, queue: str, entry: str
    ) -> ClaimStatus:
        held = self.requests.get(request)
        if held is None:
            self._discard(queue, entry)
            self.owned.get(owner, set()).discard(request)
            return ClaimStatus.MISSING
        if (held.owner, held.epoch) == (verifier, epoch):
            return ClaimStatus.OK
        verdict = self._judge_claim(held, verifier, owner, expected)
        if verdict is ClaimStatus.POISON:
            return verdict
        if verdict is not ClaimStatus.OK:
            if entry != self.entry(request):
                self._discard(queue, entry)
            if held.has_ended:
                self.owned.get(owner, set()).discard(request)
            return verdict
        held.crash_claims = self._crash_claims(held, verifier)
        self._own(request, verifier)
        held.epoch, held.status, held.claimed_position = epoch, "running", held.position
        self._discard(queue, entry)
        self.unqueue(request)
        return ClaimStatus.OK

    def _judge_claim(self, held: Held, verifier: str, owner: str, expected: str) -> ClaimStatus:
        if held.has_ended:
            return ClaimStatus.FINISHED if held.status == "finished" else ClaimStatus.CANCELLED
        if (held.owner, held.epoch) != (owner, expected) or owner in self.live - {verifier}:
            return ClaimStatus.OWNED
        return ClaimStatus.POISON if self._crash_claims(held, verifier) >= POISON_AT else ClaimStatus.OK

    def _crash_claims(self, held: Held, verifier: str) -> int:
        if held.position > held.claimed_position:
            return 0
        return held.crash_claims + (held.owner not in ("", verifier))

    def commit(self, row: CommitRow) -> CommitStatus:
        held = self.requests.get(row.request)
        if held is None:
            return CommitStatus.MISSING
        here = (held.position, held.digest)
        starts, ends = here == (row.start, row.start_digest), here == (row.end, row.end_digest)
        if held.epoch != row.epoch or held.epoch == "0" or not (starts or ends or held.position < row.start):
            return CommitStatus.FENCED
        if ends and (row.tokens or held.status == "finished"):
            return CommitStatus.SAME
        if held.has_ended:
            return CommitStatus.CANCELLED
        if held.position < row.start:
            return CommitStatus.BEHIND
        held.position, held.digest = row.end, row.end_digest
        if row.tokens:
            held.journal.append((row.end, row.tokens))
            held.has_first_token = True
        if row.finish:
            held.status, held.terminal = "finished", row.event
            self.count(held)
            self.owned.get(held.owner, set()).discard(row.request)
        self._publish(held.gateway, row.event)
        return CommitStatus.OK

    def release(self, request: str, epoch: str) -> Released:
        held = self.requests.get(request)
        if held is None:
            return Released.MISSING
        if held.has_ended:
            return Released.TERMINAL
        if held.epoch != epoch or epoch == "0":
            return Released.FENCED
        self._own(request, "")
        held.epoch, held.status = "0", "queued"
        self._release(request)
        return Released.OK

    def leave(self, request: str, gateway: str, attachment: int, is_over: bool) -> Left:
        held = self.requests.get(request)
        if held is None:
            return Left.MISSING
        if held.has_ended:
            return Left.TERMINAL
        if (held.gateway, held.attachment) == ("", attachment):
            return Left.OK
        if (held.gateway, held.attachment) != (gateway, attachment):
            return Left.ATTACHED
        held.gateway = ""
        self.abandoned[request] = is_over
        return Left.OK

    def cancel(
        self,
        request: str,
        status: str,
        event: bytes,
        connection: tuple[str, int] | None = None,
        only_overdue: bool = False,
    ) -> Cancelled:
        held = self.requests.get(request)
        if held is not None and not held.has_ended:
            is_elsewhere = connection is not None and connection != (held.gateway, held.attachment)
            if is_elsewhere or (only_overdue and not self.abandoned.get(request, False)):
                return Cancelled.ATTACHED
        self.abandoned.pop(request, None)
        if held is None:
            return Cancelled.MISSING
        if held.has_ended:
            return Cancelled.TERMINAL
        self.unqueue(request)
        self.owned.get(held.owner, set()).discard(request)
        held.status, held.terminal = status, event
        self.count(held)
        self._publish(held.gateway, event)
        return Cancelled.OK

    def attach(
        self, request: str, gateway: str, position: int, detached: bytes, attachment: int
    ) -> tuple[str, list[tuple[int, bytes]]]:
        held = self.requests.get(request)
        if held is None:
            return "MISSING", []
        if not held.has_ended:
            if held.attachment > attachment or (held.attachment == attachment and held.gateway != gateway):
                return "DETACHED", []
            if held.gateway != gateway:
                self._publish(held.gateway, detached)
            held.gateway, held.attachment = gateway, attachment
            self.abandoned.pop(request, None)
        return held.status, [(end, tokens) for end, tokens in held.journal if end > position]

    def reseed(
        self,
        request: str,
        fresh: Held,
        start: int,
        tokens: bytes,
        owner: str,
        owner_epoch: str,
        epoch: str,
        contradiction: Contradiction | None,
        charge: Charge,
    ) -> ReseedStatus:
        held = self.requests.get(request)
        if held is not None:
            if owner and (held.owner, held.epoch) == (owner, epoch):
                return ReseedStatus.OK
            verdict = self._judge_reseed(held, fresh.position, start, owner, owner_epoch, contradiction)
            if verdict is not ReseedStatus.OK:
                return verdict
        else:
            held = self.requests[request] = fresh
        was_queued = held is not fresh and held.status == "queued"
        held.position = held.claimed_position = fresh.position
        held.digest, held.crash_claims = fresh.digest, 0
        held.journal = [(fresh.position, tokens)] if tokens else []
        self._own(request, owner)
        if owner:
            held.epoch, held.status = epoch, "running"
            return ReseedStatus.OK
        held.epoch, held.status = "0", "queued"
        if not was_queued and not tokens:
            held.queue = held.tier
            self.tiers[held.tier].add(request, charge)
        elif not was_queued:
            self._release(request)
        return ReseedStatus.OK

    def _judge_reseed(
        self,
        held: Held,
        position: int,
        start: int,
        owner: str,
        epoch: str,
        contradiction: Contradiction | None,
    ) -> ReseedStatus:
        if held.has_ended:
            return ReseedStatus.TERMINAL
        if owner and (held.owner, held.epoch) != (owner, epoch):
            return ReseedStatus.FENCED
        lost_journal = held.position > start and not held.journal
        contradicts = contradiction == Contradiction(held.position, held.digest)
        if held.position < position or lost_journal or contradicts:
            return ReseedStatus.OK
        return ReseedStatus.UNNEEDED
