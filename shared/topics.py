"""Every stream and key name of a cell, with the reason for each lifetime and bound (docs/protocol.md).

All keys of a cell carry the same literal hash tag, ``{cell}:``, so that scripts over several keys stay legal on a
Redis Cluster and one primary serves one cell. Nothing else in the tree spells a key.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from shared import codec
from shared.errors import ConfigurationError
from shared.messages import CandidateTrees, ControlEvent, DraftRequest, Message, SelectedTrees, TokenEvent

Kind = Literal["verifier", "drafter", "selector", "gateway"]
M = TypeVar("M", bound=Message)

NUM_TIERS = 4
"""Priority tiers of the work queue; tier 0 is read first."""
VERIFIER_GROUP = "verifiers"
"""The one group on every ``requests:`` stream; created at ``0``, because ``$`` would skip the backlog."""
SELECTOR_GROUP = "selectors"
"""The group on ``select``; created at ``$``, because old candidate trees are worthless."""

HEARTBEAT_TTL_MS = 1_000
"""A member without a beat for this long is gone: four missed beats, so a paused second is not yet a death."""
HEARTBEAT_PERIOD_MS = 250
OWNED_STREAM_TTL_S = 30
"""A dead owner's streams go by themselves; long enough to survive a paused owner or a Redis failover."""
RETAIN_MS = 600_000
"""A finished request stays readable for ten minutes, so that a client can resume or ask again."""
CALIBRATION_TTL_S = 86_400
"""What a pair of models has taught outlives a night without traffic, not the models."""
ARMS_TTL_S = 90 * 86_400
"""As long as the longest step may last."""
USAGE_DAYS = 90
"""How long what tenants have used can be asked for; for longer, keep the answers."""
HINT_MAXLEN = 256
"""Hints are folded to the newest; a longer backlog is only memory."""
TOKENS_MAXLEN = 10_000
"""Copies of the journal; a gateway that falls further behind sees the gap and attaches."""
GONE_GATEWAY_MS = 30_000
"""Once a dead gateway's stream has gone too, its clients have so long to come back before they are cancelled."""
CONTROL_MAXLEN = 1_024
"""Wake-ups only; the truth is in the keys."""
AUDIT_MAXLEN = 10_000
"""What operators did lately; for longer, keep the gateways' log."""
INSPECT_MAXLEN = 1_024
"""Two entries an iteration: the last 512 of an inspected request, 1.9 MB at most."""
INSPECT_TTL_S = 600
"""As long after the last iteration as the request itself may be read, unless newer ones need the room."""
LIVE_TTL_S = 5
"""A verifier that has stopped telling is not shown as if it went on."""
WATCHED_TTL_S = 10
"""Verifiers tell while somebody has looked within this time."""
RUNNING_LEASE_MS = 30_000
"""A dead gateway's requests count against their tenants' limits for so long."""

_CELL = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True, slots=True)
class Keys:
    """Names of one cell. Members (`verifier`, `drafter`, ...) are always ``<name>.<boot nonce>``.

    Raises ConfigurationError for a cell name that could not be a literal hash tag.
    """

    cell: str

    def __post_init__(self) -> None:
        if not _CELL.fullmatch(self.cell):
            raise ConfigurationError(f"cell {self.cell!r} must be 1 to 64 of letters, digits, '_', '.', '-'")

    @property
    def prefix(self) -> str:
        """What every key of the cell starts with; scripts derive same-slot keys from it."""
        return f"{{{self.cell}}}:"

    # Work: streams whose entries must never be lost.

    def requests(self, tier: int) -> str:
        """What verifiers read of one tier's queue. Raises ValueError outside 0..NUM_TIERS-1."""
        return self._of_tier("requests", tier)

    def waiting(self, tier: int) -> str:
        """Sorted set of requests behind the tier's short stream, by the start tags of fair queueing."""
        return self._of_tier("waiting", tier)

    def tags(self, tier: int) -> str:
        """Hash: the tier's virtual time and where each tenant's last request ends in it; while anyone waits."""
        return self._of_tier("tags", tier)

    def backlog(self, tier: int) -> str:
        """Hash: tokens and requests of each tenant in the tier's queue; while it is not empty."""
        return self._of_tier("backlog", tier)

    def _of_tier(self, name: str, tier: int) -> str:
        if not 0 <= tier < NUM_TIERS:
            raise ValueError(f"tier {tier} is not in 0..{NUM_TIERS - 1}")
        return f"{self.prefix}{name}:{tier}"

    @property
    def released(self) -> str:
        """Requests given back by a live verifier: unbounded, read before every tier."""
        return f"{self.prefix}requests:released"

    @property
    def dead(self) -> str:
        """Work no service could handle, kept for the operator."""
        return f"{self.prefix}dead"

    # Hints: streams whose entries must never be resurrected.

    def draft(self, drafter: str) -> str:
        return f"{self.prefix}draft:{drafter}"

    @property
    def select(self) -> str:
        return f"{self.prefix}select"

    def verify(self, verifier: str) -> str:
        return f"{self.prefix}verify:{verifier}"

    def tokens(self, gateway: str) -> str:
        """Copies of journal entries for the streams that one gateway holds open."""
        return f"{self.prefix}tokens:{gateway}"

    @property
    def control(self) -> str:
        return f"{self.prefix}control"

    # State: the truth from which everything else is rebuilt.

    def request(self, request: str) -> str:
        """Hash of one request; without expiry until its terminal event, then RETAIN_MS."""
        return f"{self.prefix}request:{request}"

    def journal(self, request: str) -> str:
        """Stream of committed tokens with ids ``<end position>-0``; lives as long as the hash."""
        return f"{self.prefix}out:{request}"

    @property
    def abandoned(self) -> str:
        """Sorted set of requests that no connection waits for, by the time at which they are to be cancelled."""
        return f"{self.prefix}abandoned"

    def owned(self, verifier: str) -> str:
        """Set of requests a verifier owns: what others take over when its heartbeat is gone."""
        return f"{self.prefix}owned:{verifier}"

    def profile(self, verifier: str, version: str) -> str:
        return f"{self.prefix}profile:{verifier}:{version}"

    def calibration(self, pair: str) -> str:
        """Label counts of one model pair, ``<draft>:<target>``; for CALIBRATION_TTL_S after the last label."""
        return f"{self.prefix}calibration:{pair}"

    @property
    def modes(self) -> str:
        """Hash of operators' orders by scope (shared.modes): verification modes of cell, tenants and classes."""
        return f"{self.prefix}modes"

    @property
    def api_keys(self) -> str:
        """Hash of API keys by id (shared.api_keys); records stay, also of revoked keys."""
        return f"{self.prefix}api_keys"

    @property
    def api_keys_version(self) -> str:
        """Random value, another one after each change of `api_keys`."""
        return f"{self.prefix}api_keys:version"

    @property
    def audit(self) -> str:
        """Stream of what operators changed (shared.audit), the last AUDIT_MAXLEN events."""
        return f"{self.prefix}audit"

    def running(self, tenant: str) -> str:
        """Sorted set of a tenant's requests under way, by when their leases end; only where it has a limit."""
        return f"{self.prefix}running:{tenant}"

    @property
    def spent(self) -> str:
        """Names of counters start so: requests and tokens of a tenant in one minute, kept for two."""
        return f"{self.prefix}spent"

    @property
    def rollout(self) -> str:
        """Stage of the staged introduction; until an operator or a ramp changes it."""
        return f"{self.prefix}rollout"

    def arms(self, since_ms: int) -> str:
        """Hash: requests of each arm and class since a step began; for ARMS_TTL_S after the last one."""
        return f"{self.prefix}arms:{since_ms}"

    def usage(self, hour: str) -> str:
        """Hash: what `<tenant>:<class>` has used (shared.usage) in the hour `yyyymmddhh`, UTC; for USAGE_DAYS."""
        return f"{self.prefix}usage:{hour}"

    @property
    def incarnation(self) -> str:
        """Random value set once: another value means that Redis has forgotten."""
        return f"{self.prefix}incarnation"

    def inspect(self, request: str) -> str:
        """Stream of an inspected request's iterations (shared.inspection); INSPECT_TTL_S after the last entry."""
        return f"{self.prefix}inspect:{request}"

    @property
    def inspected(self) -> str:
        """Sorted set: `<request>:<tenant>` of all such streams, by when they were made."""
        return f"{self.prefix}inspected"

    @property
    def watched(self) -> str:
        """Exists while somebody looks at the cell: verifiers then tell what they do."""
        return f"{self.prefix}watched"

    def live(self, verifier: str) -> str:
        """What a verifier did in its last seconds, while somebody looks."""
        return f"{self.prefix}live:{verifier}"

    def members(self, kind: Kind) -> str:
        """Set of members of a kind that have beaten at least once and were not yet found gone."""
        return f"{self.prefix}{kind}s"

    def heartbeat(self, kind: Kind, member: str) -> str:
        """Exists while the member lives; its value is the msgpack map the member describes itself with."""
        return f"{self.prefix}heartbeat:{kind}:{member}"


@dataclass(frozen=True, slots=True)
class Topic(Generic[M]):
    """Binds the first word of a stream's name to the one message type its bodies hold."""

    name: str
    message: type[M]

    def encode(self, message: M) -> bytes:
        return codec.encode(message)

    def decode(self, body: bytes) -> M:
        """Raises UnreadableMessage."""
        return codec.decode(self.message, body)


DRAFT = Topic("draft", DraftRequest)
SELECT = Topic("select", CandidateTrees)
VERIFY = Topic("verify", SelectedTrees)
TOKENS = Topic("tokens", TokenEvent)
CONTROL = Topic("control", ControlEvent)
