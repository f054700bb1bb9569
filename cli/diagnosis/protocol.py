"""What services expect to find in Redis besides keys: the groups of their streams, and the function library."""

from __future__ import annotations

from collections.abc import Iterator

from cli.diagnosis.snapshot import Finding, Redis, Severity, Snapshot
from shared.functions import VERSION
from shared.topics import SELECTOR_GROUP, VERIFIER_GROUP, Keys


def groups(snapshot: Snapshot) -> Iterator[Finding]:
    """Whether every stream that several read has the group they read it by."""
    if snapshot.redis is None or "groups" in snapshot.redis.unasked:
        return
    select, found = Keys(snapshot.cell).select, dict(snapshot.redis.without_group)
    work = {stream: is_there for stream, is_there in found.items() if stream != select}
    has_verifier = _lives(snapshot.redis, "verifier")
    lost = sorted(stream for stream, is_there in work.items() if is_there or has_verifier)
    if lost:
        yield Finding(
            Severity.PROBLEM,
            "groups",
            f"no group {VERIFIER_GROUP} on {', '.join(lost)}"
            + ("; the verifiers that live have not made it" if has_verifier else ""),
            "no verifier reads what is queued there",
            f"see why in a verifier's log (NOPERM: its user needs XGROUP CREATE); by hand, losing nothing: "
            f"XGROUP CREATE {lost[0]} {VERIFIER_GROUP} 0 MKSTREAM"
            if has_verifier
            else "start a verifier: it makes the group, and misses nothing",
        )
    if select in found and _lives(snapshot.redis, "selector"):
        yield Finding(
            Severity.PROBLEM,
            "groups",
            f"no group {SELECTOR_GROUP} on {select}; the selectors that live have not made it",
            "no trees are selected, so requests are decoded without speculation",
            "see why in a selector's log (NOPERM: its user needs XGROUP CREATE); by hand: "
            f"XGROUP CREATE {select} {SELECTOR_GROUP} $ MKSTREAM",
        )
    if not found:
        yield Finding(Severity.FINE, "groups", "all streams have theirs")


def _lives(redis: Redis, kind: str) -> bool:
    return any(about is not None for about in redis.members.get(kind, {}).values())


def library(snapshot: Snapshot) -> Iterator[Finding]:
    """Whether the functions in Redis are those of this release."""
    if snapshot.redis is None or snapshot.redis.library is None:
        return
    version = snapshot.redis.library
    if version >= VERSION:
        newer = ", of a later release than this command" if version > VERSION else ""
        yield Finding(Severity.FINE, "functions", f"version {version}{newer}")
    elif _lives(snapshot.redis, "gateway"):
        yield Finding(
            Severity.WARNING,
            "functions",
            f"version {version or 'none'}, this command is of a release with version {VERSION}",
            "verifiers of this release wait until it is there",
            "during an upgrade: upgrade a gateway, it loads them; else use the command of their release",
        )
