"""The guards of the protocol, and how to take each of them out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from redis import Redis

from services.gateway.delivery import ENDED_FROM_OUTSIDE, Delivery, Delta, Gap
from services.gateway.healing import Healing
from services.gateway.stream_ids import EventIds, Seen
from services.verifier.batch import Settlement
from services.verifier.bus import VerifierBus
from services.verifier.committer import Asked, Committed, Committer, current_row
from shared import digest as digests
from shared.errors import BusUnavailable
from shared.messages import TokenEvent
from shared.topics import VERIFIER_GROUP, Keys
from shared.work import Orphan, Work, WorkReader


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What it protects, and what its removal replaces: text of the script library, or functions by name."""

    protects: str
    edits: tuple[tuple[str, str], ...] = ()
    patches: Mapping[str, Any] = field(default_factory=dict)

    def edit(self, library: str) -> str:
        """The library without the guard. Raises ValueError where the text to replace is not there once."""
        for old, new in self.edits:
            if library.count(old) != 1:
                raise ValueError(f"the script library holds {old!r} {library.count(old)} times")
            library = library.replace(old, new)
        return library


# -- replacements ---------------------------------------------------------------------------------------------
_read = WorkReader._read
_group_read = WorkReader._group_read


def read_without_recovery(self: WorkReader, count: int, start_lowest: bool, block_ms: float | None) -> Work:
    """Own pending entries are never read again."""
    self._recovering = False
    return _read(self, count, start_lowest, block_ms)


def read_and_acknowledge(
    self: WorkReader, streams: list[str], count: int, start: str, block_ms: float | None = None
) -> Work:
    """Entries are gone as soon as they are read."""
    work = _group_read(self, streams, count, start, block_ms)
    for stream, entry in work:
        self._client.xack(stream, VERIFIER_GROUP, entry.id)
        self._client.xdel(stream, entry.id)
    return work


def nothing_owned(client: Redis, keys: Keys, owner: str) -> list[Orphan]:
    """A verifier does not look for claims of its own whose replies were lost."""
    return []


def nobody_lives(self: VerifierBus) -> list[str]:
    """Every verifier looks dead to every other."""
    return [self.verifier]


def no_orphans(self: VerifierBus, live: Any, known: Any, count: int) -> list[Any]:
    """Nobody takes over anything."""
    return []


def commit_once(self: Committer, settlements: list[Settlement], asked: Asked | None) -> Committed:
    """A commit without an answer counts as made."""
    try:
        answer, is_asked = self._bus.commit([current_row(settlement) for settlement in settlements], asked)
        _, lost = self._judge(settlements, answer)
    except BusUnavailable:
        return Committed(0.0, [], False)
    return Committed(answer.time_ms, lost, is_asked)


def never_restore(self: Committer, settlement: Settlement) -> bool:
    """What Redis forgot stays forgotten."""
    return False


def receive_in_any_order(self: Delivery, event: TokenEvent, committed_at: float) -> Delta | None:
    """Events are taken as they come, if their digest fits."""
    if self.end is not None:
        return None
    if event.finish in ENDED_FROM_OUTSIDE and len(event.tokens) == 0:
        return self._finish([], event)
    new = event.tokens.tolist()
    if digests.extend(self.digest, new) != event.digest:
        raise Gap
    self._append(new, committed_at)
    return self._finish(new, event)


def receive_without_digest(self: Delivery, event: TokenEvent, committed_at: float) -> Delta | None:
    """Positions are checked, what the tokens follow on is not."""
    if self.end is not None:
        return None
    if event.finish in ENDED_FROM_OUTSIDE and len(event.tokens) == 0:
        return self._finish([], event)
    if event.start > self.position:
        raise Gap
    if event.end < self.position or (event.end == self.position and event.finish is None):
        return None
    new = event.tokens[self.position - event.start :].tolist()
    self._append(new, committed_at)
    return self._finish(new, event)


def receive_anything(self: Delivery, event: TokenEvent, committed_at: float) -> Delta | None:
    """Whatever comes is shown."""
    if self.end is not None:
        return None
    new = event.tokens.tolist()
    self._append(new, committed_at)
    return self._finish(new, event)


def never_attach(self: Healing, stream: Any) -> None:
    """What the stream has lost stays lost."""


async def never_put_back(self: Healing, stream: Any, contradiction: Any) -> None:
    """What Redis forgot of a request without a verifier stays forgotten."""


def check_nothing(self: EventIds, seen: Seen) -> None:
    """Whatever the client has got before, it gets the rest of this stream."""


def always(self: Any, *_: Any) -> bool:
    return True


# -- the guards -----------------------------------------------------------------------------------------------
_BUS, _WORK = "services.verifier.bus.VerifierBus", "shared.work.WorkReader"
_COMMITTER, _DELIVERY = "services.verifier.committer.Committer", "services.gateway.delivery.Delivery"

GUARDS: dict[str, Guard] = {
    "fence": Guard(
        protects="a commit needs the owner's epoch",
        edits=(("  if not is_owner(epoch, row.epoch) then return 'FENCED' end\n", ""),),
    ),
    "position": Guard(
        protects="a commit starts where the request stands",
        edits=(("local at_start = position == row.start and ", "local at_start = "),),
    ),
    "digest": Guard(
        protects="a commit continues the chain of tokens in Redis",
        edits=((" and digest == row.start_digest\n", "\n"),),
    ),
    "chain": Guard(
        protects="position and digest of a commit",
        edits=(
            ("local at_start = position == row.start and digest == row.start_digest", "local at_start = true"),
        ),
    ),
    "terminal": Guard(
        protects="a request that has ended takes no commit",
        edits=(("  if TERMINAL[status] then return 'CANCELLED' end\n  if behind", "  if behind"),),
    ),
    "behind": Guard(
        protects="a commit does not skip what Redis forgot",
        edits=(("  if behind then return 'BEHIND' end\n", ""),),
    ),
    "same": Guard(
        protects="a repeated commit is known again",
        edits=(("  if at_stop and (row.start ~= row.stop or status == 'finished') then return 'SAME' end\n", ""),),
    ),
    "claim-cas": Guard(
        protects="a claim expects owner and epoch",
        edits=(("  if state.owner ~= owner or state.epoch ~= epoch then return 'OWNED' end\n", ""),),
    ),
    "claim-heartbeat": Guard(
        protects="nothing is claimed from a verifier that lives",
        edits=(
            ("  if owner ~= '' and owner ~= verifier and is_alive(prefix, owner) then return 'OWNED' end\n", ""),
        ),
    ),
    "live-list": Guard(
        protects="only verifiers without a heartbeat are looked at",
        patches={f"{_BUS}.live_verifiers": nobody_lives},
    ),
    "on-time": Guard(
        protects="who was away itself takes nothing over",
        patches={"shared.heartbeat.Heartbeat.on_time_for": always},
    ),
    "take-over": Guard(
        protects="the dead are replaced",
        patches={f"{_BUS}.take_orphans": no_orphans},
    ),
    "own-set": Guard(
        protects="a claim whose reply was lost is found in the own set",
        patches={"services.verifier.bus.owned_by": nothing_owned},
    ),
    "own-pending": Guard(
        protects="after a lost reply the own pending entries are read",
        patches={f"{_WORK}._read": read_without_recovery},
    ),
    "ack-in-claim": Guard(
        protects="a queue entry goes when its request is claimed, not when it is read",
        patches={f"{_WORK}._group_read": read_and_acknowledge},
    ),
    "consumer-pending": Guard(
        protects="a consumer with pending entries is not deleted",
        edits=(
            (
                "  if #redis.call('XPENDING', keys[1], GROUP, '-', '+', 1, args[2]) > 0 "
                "then return 'PENDING' end\n",
                "",
            ),
        ),
    ),
    "commit-answered": Guard(
        protects="a commit is repeated until it is answered",
        patches={f"{_COMMITTER}.commit": commit_once},
    ),
    "reseed": Guard(
        protects="the owner restores what Redis forgot",
        patches={f"{_COMMITTER}._restore": never_restore},
    ),
    "restore": Guard(
        protects="the gateway restores what Redis forgot and no verifier does",
        patches={"services.gateway.healing.Healing._restore": never_put_back},
    ),
    "longest-chain": Guard(
        protects="a reseed does not replace a longer chain",
        edits=(("  return 'UNNEEDED'\n", "  return 'OK'\n"),),
    ),
    "reseed-fence": Guard(
        protects="only the owner reseeds",
        edits=(
            (
                "  if given.owner ~= '' and (state.owner ~= given.owner or state.epoch ~= given.epoch) "
                "then return 'FENCED' end\n",
                "",
            ),
        ),
    ),
    "sequence": Guard(
        protects="a gateway orders events by position and drops copies",
        patches={f"{_DELIVERY}.receive": receive_in_any_order},
    ),
    "event-digest": Guard(
        protects="a gateway checks that events continue what it has sent",
        patches={f"{_DELIVERY}.receive": receive_without_digest},
    ),
    "delivery": Guard(
        protects="sequence and digest of events",
        patches={f"{_DELIVERY}.receive": receive_anything},
    ),
    "mark": Guard(
        protects="a client goes on only with the stream whose beginning it has",
        patches={"services.gateway.stream_ids.EventIds.check": check_nothing},
    ),
    "attach": Guard(
        protects="a gateway reads the journal where events are missing",
        patches={"services.gateway.healing.Healing.heal": never_attach},
    ),
}

PAIRS: tuple[tuple[str, ...], ...] = (
    ("fence", "position"),
    ("fence", "digest"),
    ("fence", "chain"),
    ("fence", "event-digest"),
    ("claim-heartbeat", "live-list"),
    ("live-list", "claim-cas"),
    ("claim-heartbeat", "on-time"),
    ("behind", "event-digest"),
    ("commit-answered", "behind"),
    ("commit-answered", "own-set"),
    ("reseed", "restore"),
    ("longest-chain", "reseed-fence"),
    ("own-pending", "take-over"),
    ("chain", "event-digest"),
    ("same", "fence"),
    ("ack-in-claim", "own-pending"),
)
