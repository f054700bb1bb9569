"""The eight functions of docs/protocol.md as typed calls: pure builders and reply parsers, no connection.

    enqueue   gateway    new request into its tier's queue
    claim     verifier   take a queued request, or one of a dead verifier
    commit    verifier   append tokens of a whole batch: the only place where output becomes real
    release   verifier   give a request back
    cancel    anyone     end a request from outside, also a poisonous one
    attach    gateway    become a request's reply gateway, or stay it, and read its journal
    leave     gateway    the client has gone and may come back
    reseed    both       restore what Redis has forgotten

and six small helps: `room` tells whether enqueue would take a request, `refill` mends a tier's stream, `overdue`
names the requests that nobody came back to, `forget_consumer` deletes a dead verifier's consumer in the moment it
has nothing pending, `forget_verifier` takes it out of the set of verifiers in the moment it owns nothing,
`add_labels` adds to what is known of a draft model.

Epochs and digests are hex strings, positions count tokens with the prompt, times are Redis milliseconds. Every
call may be repeated after a lost reply; of add_labels that counts labels twice.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from shared.functions import Call, acall, aload_library, call, load_library
from shared.records import Argument, CommitRow, Origin
from shared.replies import (
    Attached,
    Cancelled,
    Claim,
    ClaimStatus,
    Commit,
    CommitStatus,
    Enqueued,
    Forgotten,
    JournalEntry,
    Left,
    Released,
    Reseeded,
    ReseedStatus,
    Room,
    parse_attached,
    parse_claim,
    parse_commit,
    parse_reseeded,
    text,
)
from shared.topics import Keys

__all__ = [
    "MAX_COMMIT_ROWS",
    "UNOWNED_EPOCH",
    "UNSHARED",
    "Attached",
    "Call",
    "Cancelled",
    "Claim",
    "ClaimStatus",
    "Commit",
    "CommitRow",
    "CommitStatus",
    "Contradiction",
    "Enqueued",
    "Forgotten",
    "JournalEntry",
    "Left",
    "Origin",
    "Released",
    "ReseedStatus",
    "Reseeded",
    "Room",
    "Terminal",
    "acall",
    "add_labels",
    "aload_library",
    "attach",
    "call",
    "cancel",
    "claim",
    "commit",
    "enqueue",
    "forget_consumer",
    "forget_verifier",
    "leave",
    "load_library",
    "new_epoch",
    "overdue",
    "refill",
    "release",
    "reseed",
    "room",
]

UNOWNED_EPOCH = "0"
"""Epoch of every request without an owner: what a claim from a queue expects."""
UNSHARED = 1e9
"""Share of a queue for tenants that compete with nobody: the queue's limit alone counts."""
MAX_COMMIT_ROWS = 256
"""Rows of one commit; the server runs nothing else meanwhile."""


class Terminal(StrEnum):
    """How cancel may end a request."""

    CANCELLED = "cancelled"
    POISONED = "poisoned"


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Where Redis stands with a chain that is not the caller's, as an attach or a reseed has just told."""

    position: int
    digest: str


def new_epoch() -> str:
    """A fresh random 63-bit epoch, hex; never the unowned one."""
    return f"{secrets.randbits(63) | 1:016x}"


def room(keys: Keys, *, tier: int, tenant: str, limit: int, share: float = UNSHARED) -> Call[Room]:
    """What `enqueue` would say now; changes nothing."""
    return Call(
        "adaserve_room",
        (keys.requests(tier),),
        (keys.prefix, tier, tenant, limit, repr(share)),
        lambda reply: Room(Enqueued(text(reply[0])), int(reply[1])),
    )


def enqueue(
    keys: Keys,
    *,
    request: str,
    origin: Origin,
    position: int,
    digest: str,
    limit: int,
    share: float = UNSHARED,
) -> Call[Enqueued]:
    """Creates the request and queues it in its tier, unless that already holds `limit` requests.

    Its tenant may hold at most `share` times the places that are free. Tenants take turns: each gets on by cost
    over weight of every request. `position` and `digest` are those of the prompt.
    """
    return Call(
        "adaserve_enqueue",
        (keys.request(request), keys.requests(origin.tier)),
        (
            keys.prefix,
            request,
            origin.tier,
            origin.tenant,
            limit,
            repr(share),
            position,
            digest,
            *origin.fields(),
        ),
        lambda reply: Enqueued(text(reply)),
    )


def refill(keys: Keys, tier: int) -> Call[None]:
    """Lets waiting requests follow entries that left the tier's stream by another way than a script."""
    return Call("adaserve_refill", (keys.requests(tier),), (keys.prefix, tier), lambda _: None)


def claim(
    keys: Keys,
    *,
    request: str,
    verifier: str,
    epoch: str,
    expected_owner: str = "",
    expected_epoch: str = UNOWNED_EPOCH,
    entry_id: str = "",
    stream: str = "",
) -> Call[Claim]:
    """Takes a request under the new `epoch`, if owner and epoch are still the expected ones.

    From a queue: pass the entry's id and stream, owner and epoch by default. From the `owned` set of a verifier
    without heartbeat, or from the own one when the reply to a claim was lost (`shared.work.owned_by`): pass that
    verifier and the epoch its hash holds, no entry. The entry is acknowledged and
    deleted here and nowhere else.
    """
    return Call(
        "adaserve_claim",
        (keys.request(request), keys.journal(request), keys.owned(verifier), stream or keys.released),
        (keys.prefix, request, verifier, expected_owner, expected_epoch, epoch, entry_id, "1"),
        parse_claim,
    )


def commit(keys: Keys, *, verifier: str, rows: Sequence[CommitRow]) -> Call[Commit]:
    """Commits the rows independently of each other. Raises ValueError above MAX_COMMIT_ROWS."""
    if len(rows) > MAX_COMMIT_ROWS:
        raise ValueError(f"{len(rows)} rows in one commit, limit {MAX_COMMIT_ROWS}")
    names = [keys.owned(verifier)]
    arguments: list[Argument] = [keys.prefix]
    for row in rows:
        names += (keys.request(row.request), keys.journal(row.request))
        arguments += (row.request, row.epoch, row.start, row.start_digest, row.end, row.end_digest)
        arguments += (row.tokens, row.event, row.finish, row.logprobs, row.stats)
    return Call("adaserve_commit", tuple(names), tuple(arguments), parse_commit)


def release(keys: Keys, *, request: str, verifier: str, epoch: str, stats: bytes = b"") -> Call[Released]:
    """Gives a request back; any verifier may claim it at once. `stats` are as a commit row's."""
    return Call(
        "adaserve_release",
        (keys.request(request), keys.owned(verifier), keys.released),
        (keys.prefix, request, epoch, stats),
        lambda reply: Released(text(reply)),
    )


def cancel(
    keys: Keys,
    *,
    request: str,
    event: bytes,
    status: Terminal = Terminal.CANCELLED,
    dead_reason: str = "",
    connection: tuple[str, int] | None = None,
    only_overdue: bool = False,
    finish: str = "",
) -> Call[Cancelled]:
    """Ends a request that has not ended; `event` is the encoded terminal TokenEvent for its gateway.

    `finish` is what it says, where that is neither "cancelled" nor a poisonous request's "error".

    With `dead_reason` the id also goes to the dead letters, in the same step. With `connection`, a gateway and its
    attachment, only while the request is still sent there; with `only_overdue` only if its grace is over.
    """
    gateway, attachment = connection or ("", "")
    return Call(
        "adaserve_cancel",
        (keys.request(request), keys.journal(request), keys.dead, keys.abandoned),
        (
            keys.prefix,
            request,
            status,
            event,
            dead_reason,
            gateway,
            attachment,
            "1" if only_overdue else "",
            finish,
        ),
        lambda reply: Cancelled(text(reply)),
    )


def attach(
    keys: Keys, *, request: str, gateway: str, position: int, detached: bytes, attachment: int
) -> Call[Attached]:
    """Makes `gateway` the reply gateway and returns the journal entries that end after `position`.

    The first of them may begin before it. `detached` is the encoded event that ends the stream at the previous
    gateway, published there if it is another one and the request has not ended. The connection with the highest
    `attachment` has the request; any other is DETACHED.
    """
    return Call(
        "adaserve_attach",
        (keys.request(request), keys.journal(request), keys.abandoned),
        (keys.prefix, request, gateway, position, detached, attachment),
        parse_attached,
    )


def leave(keys: Keys, *, request: str, gateway: str, attachment: int, grace_ms: int) -> Call[Left]:
    """The client of this connection has gone: whoever attaches within the grace gets the request, else `overdue`
    names it."""
    return Call(
        "adaserve_leave",
        (keys.request(request), keys.abandoned),
        (keys.prefix, request, gateway, attachment, grace_ms),
        lambda reply: Left(text(reply)),
    )


def overdue(keys: Keys) -> Call[list[str]]:
    """Requests whose grace is over, to be cancelled with `only_overdue`; a bounded number of them."""
    return Call(
        "adaserve_overdue",
        (keys.abandoned,),
        (keys.prefix,),
        lambda reply: [text(request) for request in reply],
    )


def reseed(
    keys: Keys,
    *,
    request: str,
    origin: Origin,
    start: int,
    position: int,
    digest: str,
    tokens: bytes,
    logprobs: bytes = b"",
    first_token_ms: float | None = None,
    last_token_ms: float | None = None,
    enqueued_ms: float | None = None,
    owner: str = "",
    owner_epoch: str = "",
    epoch: str = "",
    contradiction: Contradiction | None = None,
) -> Call[Reseeded]:
    """Replaces a missing or shorter journal by the caller's chain of output tokens (uint32 LE, start..position).

    `logprobs` are the entries of the same tokens, or nothing.

    `start` is the prompt's length; the times are Redis' clock, None where they are not known: a missing hash then
    counts as enqueued now. A gateway passes no owner: the request then goes to `requests:released`, or
    without tokens into its tier's queue, however full that is. A verifier still at work on it is fenced; so a
    gateway leaves a live owner the time to be first. The live owner passes itself, the epoch it holds and a new
    one, and goes on under the new one. `contradiction` also replaces an equally long or longer chain that differs
    from what the client has seen, if Redis still stands there.
    """
    if len(tokens) != 4 * (position - start):
        raise ValueError(f"{len(tokens)} bytes of tokens do not fill {start}..{position}")
    conflict = ("", "") if contradiction is None else (contradiction.position, contradiction.digest)
    first = "" if first_token_ms is None else f"{first_token_ms:.3f}"
    chain = (start, position, digest, tokens, first, *conflict, logprobs)
    known = {
        "enqueued_ms": enqueued_ms,
        "last_token_ms": last_token_ms,
    }  # older libraries keep them too
    times = [item for name, ms in known.items() if ms is not None for item in (name, f"{ms:.3f}")]
    return Call(
        "adaserve_reseed",
        (keys.request(request), keys.journal(request), keys.released),
        (keys.prefix, request, owner, owner_epoch, epoch, *chain, origin.tier, *origin.fields(), *times),
        parse_reseeded,
    )


def forget_consumer(keys: Keys, *, stream: str, consumer: str) -> Call[Forgotten]:
    """Deletes a verifier's consumer from one queue, if it has no heartbeat and nothing pending."""
    return Call(
        "adaserve_forget_consumer",
        (stream, keys.heartbeat("verifier", consumer)),
        (keys.prefix, consumer),
        lambda reply: Forgotten(text(reply)),
    )


def forget_verifier(keys: Keys, verifier: str) -> Call[Forgotten]:
    """Takes a verifier out of the set by which others find its requests, if it has no heartbeat and owns none."""
    return Call(
        "adaserve_forget_verifier",
        (keys.members("verifier"), keys.heartbeat("verifier", verifier), keys.owned(verifier)),
        (keys.prefix, verifier),
        lambda reply: Forgotten(text(reply)),
    )


def add_labels(keys: Keys, *, pair: str, packed: Mapping[int, bytes], cap: int) -> Call[None]:
    """Adds label counts (`shared.labels.LabelCounts.pack`) of a model pair; its key lives a day longer.

    In a temperature bucket with more than `cap` labels all counts are halved, so that they follow a drift.
    """
    arguments: list[Argument] = [keys.prefix, cap]
    for bucket, counts in packed.items():
        arguments += (bucket, counts)
    return Call("adaserve_add_labels", (keys.calibration(pair),), tuple(arguments), lambda _: None)
