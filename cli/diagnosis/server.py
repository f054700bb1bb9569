"""Redis itself, and the queues that stand in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cli.diagnosis.snapshot import Finding, Severity, Snapshot
from cli.plurals import counted

MIN_REDIS = 7
MEMORY_FULL, MEMORY_TIGHT = 0.95, 0.8


def redis(snapshot: Snapshot) -> Iterator[Finding]:
    """Whether it is there, new enough, and keeps what it is given."""
    if snapshot.redis_error:
        yield Finding(
            Severity.PROBLEM,
            "redis",
            snapshot.redis_error,
            "the queue and all journals are in it",
            snapshot.redis_remedy or "start it, or name the right REDIS_URL",
        )
    if snapshot.redis is None:
        if snapshot.redis_error is None:
            yield Finding(Severity.UNKNOWN, "redis", "not looked at: no REDIS_URL was given")
        return
    server = snapshot.redis
    if server.unasked:
        yield Finding(
            Severity.UNKNOWN,
            "redis",
            f"not looked at, for this user may not ask: {', '.join(server.unasked)}",
            "what is wrong there is not found",
            "see the finding about rights"
            if server.has_other_cells_users
            else "ADASERVE_REDIS_USERNAME and ADASERVE_REDIS_PASSWORD_FILE: look as the user operator",
        )
    if not server.info:
        return
    if int(server.version.partition(".")[0] or 0) < MIN_REDIS:
        yield Finding(
            Severity.PROBLEM,
            "redis",
            f"version {server.version}; functions need {MIN_REDIS} or newer",
            "the scripts cannot be loaded",
            "update Redis or Valkey",
        )
    else:
        yield Finding(Severity.FINE, "redis", f"version {server.version} answers")
    yield from _memory(server.info)
    yield from _persistence(server.info)


def _memory(info: Mapping[str, Any]) -> Iterator[Finding]:
    policy = str(info.get("maxmemory_policy", "noeviction"))
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if policy != "noeviction":
        yield Finding(
            Severity.PROBLEM,
            "redis memory",
            f"maxmemory-policy is {policy}",
            "an evicted key is a forgotten request",
            "CONFIG SET maxmemory-policy noeviction, and in its configuration file",
        )
    if most and used >= MEMORY_TIGHT * most:
        is_full = used >= MEMORY_FULL * most
        yield Finding(
            Severity.PROBLEM if is_full else Severity.WARNING,
            "redis memory",
            f"{used / most:.0%} of maxmemory, {most >> 20} MiB, is used",
            "at maxmemory commits are held and new requests refused",
            "raise maxmemory: ten minutes of journals have to fit",
        )
    elif policy == "noeviction":
        yield Finding(Severity.FINE, "redis memory", _used(used, most))


def _used(used: int, most: int) -> str:
    return f"{used >> 20} MiB used" + (f" of {most >> 20} MiB" if most else "; maxmemory sets no limit")


def _persistence(info: Mapping[str, Any]) -> Iterator[Finding]:
    if int(info.get("aof_enabled", 0)) and info.get("aof_last_write_status", "ok") != "ok":
        yield Finding(
            Severity.PROBLEM,
            "redis persistence",
            "its last write to the append-only file failed",
            "it refuses writes, so nothing is served",
            "look at its disk",
        )
    elif not int(info.get("aof_enabled", 0)):
        yield Finding(
            Severity.WARNING,
            "redis persistence",
            "appendonly is no",
            "with Redis' process the queue goes, and usage, keys and orders with it",
            "CONFIG SET appendonly yes, unless that is meant",
        )
    else:
        yield Finding(Severity.FINE, "redis persistence", "the append-only file is written")


def queues(snapshot: Snapshot) -> Iterator[Finding]:
    """Whether more comes than is served, and what nobody could serve."""
    if snapshot.redis is None:
        return
    growing = {tier: (now, more) for tier, (now, more) in snapshot.redis.waiting.items() if more > 0}
    for tier, (now, more) in growing.items():
        yield Finding(
            Severity.WARNING,
            "queues",
            f"{counted(now, 'request')} waiting in tier {tier}, {more} more than a second ago",
            "first tokens come later and later, until requests are refused",
            "one more verifier, or limits for the tenants that fill the queue",
        )
    if not growing and snapshot.redis.waiting:
        waiting = sum(now for now, _ in snapshot.redis.waiting.values())
        yield Finding(
            Severity.FINE,
            "queues",
            "no request waits"
            if not waiting
            else f"{counted(waiting, 'request')} waiting, and they become no more",
        )
    if snapshot.redis.dead_letters:
        yield Finding(
            Severity.WARNING,
            "dead letters",
            f"{counted(snapshot.redis.dead_letters, 'request')} could not be served by any verifier",
            "their clients were told an error",
            "`XREVRANGE {<cell>}:dead + - COUNT 10` tells ids and reasons; delete what is settled",
        )
