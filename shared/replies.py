"""Replies of the functions in `shared.scripts`, as types; the parsers take raw RESP2 replies."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Enqueued(StrEnum):
    """Outcome of enqueue."""

    OK = "OK"
    EXISTS = "EXISTS"
    """The id is known: nothing was changed. After a lost reply this is success."""
    FULL = "FULL"
    """The tier's queue is at its limit: nothing was created."""
    TENANT_FULL = "TENANT_FULL"
    """The tenant holds as much of the tier's queue as it may now: nothing was created."""


@dataclass(frozen=True, slots=True)
class Room:
    """Whether a request would be enqueued now (OK), and how many tokens wait in its tier and those above it."""

    status: Enqueued
    tokens_ahead: int


class ClaimStatus(StrEnum):
    """Outcome of claim."""

    OK = "OK"
    OWNED = "OWNED"
    """Another owner or epoch than expected, or the owner's heartbeat lives."""
    CANCELLED = "CANCELLED"
    FINISHED = "FINISHED"
    MISSING = "MISSING"
    POISON = "POISON"
    """Third owner in a row that died without progress: not claimed; end it with cancel(status=POISONED)."""


class CommitStatus(StrEnum):
    """Outcome of one commit row."""

    OK = "OK"
    SAME = "SAME"
    """Committed before, the reply was lost: success."""
    MISSING = "MISSING"
    """Redis has forgotten the request: reseed."""
    FENCED = "FENCED"
    """Another verifier owns the request: free it, send nothing."""
    CANCELLED = "CANCELLED"
    """The request has ended: free it."""
    BEHIND = "BEHIND"
    """Redis has forgotten earlier commits: reseed."""
    ERROR = "ERROR"
    """The server refused this row's writes (logged there); nothing of the row was changed."""


class Released(StrEnum):
    """Outcome of release."""

    OK = "OK"
    MISSING = "MISSING"
    TERMINAL = "TERMINAL"
    FENCED = "FENCED"
    """Not this epoch's any more. After a lost reply this is success."""


class Cancelled(StrEnum):
    """Outcome of cancel."""

    OK = "OK"
    MISSING = "MISSING"
    TERMINAL = "TERMINAL"
    """The request had ended before: nothing was changed."""
    ATTACHED = "ATTACHED"
    """Its condition does not hold: another connection waits for the request, or its grace is not over."""


class Left(StrEnum):
    """Outcome of leave."""

    OK = "OK"
    MISSING = "MISSING"
    TERMINAL = "TERMINAL"
    ATTACHED = "ATTACHED"
    """Another connection has the request."""


class Forgotten(StrEnum):
    """Outcome of forget_consumer and forget_verifier."""

    OK = "OK"
    ALIVE = "ALIVE"
    PENDING = "PENDING"
    """It has entries or requests that others find by it."""


class ReseedStatus(StrEnum):
    """Outcome of reseed."""

    OK = "OK"
    UNNEEDED = "UNNEEDED"
    """Redis holds at least as much; compare its position and digest with the own chain."""
    FENCED = "FENCED"
    """The caller is not the owner any more."""
    TERMINAL = "TERMINAL"


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One commit: `tokens` (uint32 LE) are context[end - n : end]; `logprobs` their entries, where asked for."""

    end: int
    tokens: bytes
    logprobs: bytes = b""

    @property
    def start(self) -> int:
        return self.end - len(self.tokens) // 4


@dataclass(frozen=True, slots=True)
class Claim:
    """A claimed (OK) or poisonous (POISON) request with all it takes to rebuild it; else only the status."""

    status: ClaimStatus
    body: bytes = b""
    position: int = 0
    digest: str = ""
    first_token_ms: float | None = None
    crash_claims: int = 0
    gateway: str = ""
    traceparent: str | None = None
    tenant: str = ""
    tier: int = 0
    seed: int = 0
    enqueued_ms: float = 0.0
    time_ms: float = 0.0
    form: bytes = b""
    attachment: int = 1
    cost: int = 1
    weight: float = 1.0
    budget_ms: float | None = None
    journal: tuple[JournalEntry, ...] = ()
    spent_ms: float = 0.0
    last_token_ms: float | None = None

    @property
    def tokens(self) -> bytes:
        """All committed output tokens, uint32 LE, in order."""
        return b"".join(entry.tokens for entry in self.journal)

    @property
    def logprobs(self) -> bytes:
        """The entries of all committed output tokens, in order."""
        return b"".join(entry.logprobs for entry in self.journal)

    @property
    def queued_ms(self) -> float:
        """Time from enqueue to this claim, both on Redis' clock."""
        return max(0.0, self.time_ms - self.enqueued_ms)

    @property
    def has_expired(self) -> bool:
        """Whether nobody waits for it any more: it has not begun, and its budget went by in the queue."""
        return self.budget_ms is not None and not self.journal and self.queued_ms > self.budget_ms


@dataclass(frozen=True, slots=True)
class Commit:
    """`time_ms` is Redis' clock at the commit; `results` are in the order of the rows."""

    time_ms: float
    results: tuple[CommitStatus, ...]


@dataclass(frozen=True, slots=True)
class Attached:
    """State and journal of a request after attach. `status` is queued, running, finished, cancelled, poisoned,
    MISSING, or DETACHED where another connection has taken it; `terminal` is the encoded TokenEvent of an ended
    request, else empty."""

    status: str
    position: int = 0
    digest: str = ""
    first_token_ms: float | None = None
    finish: str = ""
    terminal: bytes = b""
    journal: tuple[JournalEntry, ...] = ()
    enqueued_ms: float | None = None
    last_token_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Reseeded:
    """`position` and `digest` are what Redis holds after the call (0 and empty where that is unknown)."""

    status: ReseedStatus
    position: int
    digest: str


def text(reply: Any) -> str:
    """A bulk string of ours, always ASCII or UTF-8."""
    return reply.decode() if isinstance(reply, bytes) else str(reply)


def parse_claim(reply: list[Any]) -> Claim:
    status = ClaimStatus(text(reply[0]))
    if len(reply) == 1:
        return Claim(status)
    body, position, digest, first, crashes, gateway, trace, tenant, tier, seed, enqueued, now = reply[1:13]
    form, attachment, cost, weight, budget, journal = reply[13:19]
    spent, last = reply[19:] or (b"", b"")  # an older library tells neither
    return Claim(
        status=status,
        body=body,
        position=int(position),
        digest=text(digest),
        first_token_ms=_time(first),
        crash_claims=int(crashes),
        gateway=text(gateway),
        traceparent=text(trace) or None,
        tenant=text(tenant),
        tier=int(tier),
        seed=int(seed),
        enqueued_ms=float(enqueued),
        time_ms=float(now),
        form=form,
        attachment=int(attachment),
        cost=int(cost),
        weight=float(weight),
        budget_ms=_time(budget),
        journal=_journal(journal),
        spent_ms=_time(spent) or 0.0,
        last_token_ms=_time(last),
    )


def parse_commit(reply: list[Any]) -> Commit:
    return Commit(float(reply[0]), tuple(CommitStatus(text(status)) for status in reply[1:]))


def parse_attached(reply: list[Any]) -> Attached:
    if len(reply) == 1:
        return Attached(text(reply[0]))
    status, position, digest, first, finish, terminal, enqueued, last, journal = reply
    return Attached(
        status=text(status),
        position=int(position),
        digest=text(digest),
        first_token_ms=_time(first),
        finish=text(finish),
        terminal=terminal,
        journal=_journal(journal),
        enqueued_ms=_time(enqueued),
        last_token_ms=_time(last),
    )


def parse_reseeded(reply: list[Any]) -> Reseeded:
    return Reseeded(ReseedStatus(text(reply[0])), int(reply[1]), text(reply[2]))


def _time(value: bytes) -> float | None:
    return float(value) if value else None


def _journal(entries: list[Any]) -> tuple[JournalEntry, ...]:
    # [[id, [b"tokens", value]], ...], or with b"logprobs", value behind; the id is `<end position>-0`.
    return tuple(JournalEntry(int(entry.split(b"-")[0]), *fields[1::2]) for entry, fields in entries)
