"""Functions behind the gateways' door as typed calls: API keys, how many requests a tenant has under way, and
which of them are inspected.

Pure builders and reply parsers, like `shared.scripts`. Every call may be repeated after a lost reply.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.functions import Call
from shared.records import Argument
from shared.replies import text
from shared.topics import INSPECT_TTL_S, RUNNING_LEASE_MS, Keys


@dataclass(frozen=True, slots=True)
class Held:
    """Whether the requests are counted now, and how many the tenant has under way, with them if so."""

    is_granted: bool
    num_running: int


@dataclass(frozen=True, slots=True)
class KeyRecords:
    """All API keys as stored, by id; ``version`` is "" where none were ever stored."""

    version: str
    by_id: Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class KeyChange:
    """A record to store under an id, if ``replaces`` (b"" for nothing) still stands there."""

    id: str
    record: bytes
    replaces: bytes = b""


def hold(
    keys: Keys, *, tenant: str, requests: Sequence[str], limit: int | None, lease_ms: int = RUNNING_LEASE_MS
) -> Call[Held]:
    """Counts requests as under way until their lease ends, or renews it; all or none, at most `limit` together."""
    return Call(
        "adaserve_hold",
        (keys.running(tenant),),
        (keys.prefix, lease_ms, "" if limit is None else limit, *requests),
        lambda reply: Held(text(reply[0]) == "OK", int(reply[1])),
    )


def let_go(keys: Keys, *, tenant: str, requests: Sequence[str]) -> Call[None]:
    """Counts them no more."""
    return Call("adaserve_let_go", (keys.running(tenant),), (keys.prefix, *requests), lambda _: None)


def open_inspected(keys: Keys, *, tenant: str, requests: Sequence[str], limit: int) -> Call[None]:
    """Makes the streams of a tenant's inspected requests; of all tenants no more than `limit` are kept."""
    return Call(
        "adaserve_open_inspected",
        (keys.inspected,),
        (keys.prefix, limit, INSPECT_TTL_S, tenant, *requests),
        lambda _: None,
    )


def read_keys(keys: Keys, *, known_version: str) -> Call[KeyRecords | None]:
    """All API keys; None where the caller knows them already."""
    return Call(
        "adaserve_read_keys", (keys.api_keys, keys.api_keys_version), (keys.prefix, known_version), _records
    )


def write_keys(keys: Keys, *, new_version: str, changes: Sequence[KeyChange]) -> Call[list[str]]:
    """Stores what nobody else has changed meanwhile; the ids of the others. `new_version` is random."""
    arguments: list[Argument] = [keys.prefix, new_version]
    for change in changes:
        arguments += (change.id, change.record, change.replaces)
    return Call(
        "adaserve_write_keys",
        (keys.api_keys, keys.api_keys_version),
        tuple(arguments),
        lambda reply: [text(key_id) for key_id in reply],
    )


def _records(reply: Any) -> KeyRecords | None:
    if reply is None:
        return None
    version, flat = reply
    return KeyRecords(text(version), dict(zip(flat[::2], flat[1::2], strict=True)))
