"""Who waits in Redis for a verifier: in a tier's stream, in the list behind it, or given back by a verifier.

A request waits from when it was enqueued, not from when it came to its place; one that has tokens since its last.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from services.gateway.bus import Bus
from shared.functions import Command
from shared.replies import text
from shared.topics import NUM_TIERS, Keys

FIRST = (
    64  # of each stream and list, in the order in which they will be served, among which the oldest is looked for
)


class Waiting(NamedTuple):
    """The requests of a tier, and how long the oldest of them has waited, in seconds; 0 where none says so."""

    num_requests: int
    oldest_s: float


async def look(bus: Bus) -> list[Waiting]:
    """By tier, on Redis' clock; what Redis refuses to tell counts as nothing. Raises BusUnavailable."""
    clock, released, *replies = await bus.look(_first_look(bus.keys))
    counts = [_number(replies[tier]) + _number(replies[NUM_TIERS + tier]) for tier in range(NUM_TIERS)]
    streams, lists = replies[2 * NUM_TIERS : 3 * NUM_TIERS], replies[3 * NUM_TIERS :]
    given_back = _queued(released)
    of_tier = [[*_queued(entries), *_listed(members)] for entries, members in zip(streams, lists, strict=True)]
    held = await _held(bus, [*given_back, *(name for names in of_tier for name in names)])
    for name in given_back:  # only their hash tells their tier
        tier = held[name].get("tier")
        if tier is not None and 0 <= int(tier) < NUM_TIERS:
            of_tier[int(tier)].append(name)
            counts[int(tier)] += 1
    now_ms = 0.0 if isinstance(clock, Exception) else float(clock[0]) * 1e3 + float(clock[1]) / 1e3
    return [
        Waiting(count, _oldest_s((held[name] for name in names), now_ms))
        for count, names in zip(counts, of_tier, strict=True)
    ]


def _first_look(keys: Keys) -> list[Command]:
    tiers = range(NUM_TIERS)
    return [
        ("TIME",),
        ("XRANGE", keys.released, "-", "+", "COUNT", FIRST),
        *(("XLEN", keys.requests(tier)) for tier in tiers),
        *(("ZCARD", keys.waiting(tier)) for tier in tiers),
        *(("XRANGE", keys.requests(tier), "-", "+", "COUNT", FIRST) for tier in tiers),
        *(("ZRANGE", keys.waiting(tier), 0, FIRST - 1) for tier in tiers),
    ]


async def _held(bus: Bus, requests: list[str]) -> dict[str, dict[str, float]]:
    """What the hashes say of each, so far as they do."""
    fields = ("tier", "enqueued_ms", "last_token_ms")
    asked: list[Command] = [("HMGET", bus.keys.request(name), *fields) for name in requests]
    replies = await bus.look(asked) if asked else []
    found = [[] if isinstance(reply, Exception) else reply for reply in replies]
    return {
        name: {field: float(value) for field, value in zip(fields, values, strict=False) if value}
        for name, values in zip(requests, found, strict=True)
    }


def _oldest_s(held: Iterable[Mapping[str, float]], now_ms: float) -> float:
    since = [max(one["enqueued_ms"], one.get("last_token_ms", 0.0)) for one in held if "enqueued_ms" in one]
    return max(0.0, now_ms - min(since, default=now_ms)) / 1e3


def _number(reply: Any) -> int:
    return reply if isinstance(reply, int) else 0


def _queued(entries: Any) -> list[str]:
    """Requests that the entries of a stream name."""
    if isinstance(entries, Exception):
        return []
    return [fields[b"body"].decode(errors="replace") for _, fields in entries if fields and b"body" in fields]


def _listed(members: Any) -> list[str]:
    return [] if isinstance(members, Exception) else [text(member) for member in members]
