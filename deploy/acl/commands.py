"""The commands that any user has, how each touches its keys, and the keys that each function declares."""

from __future__ import annotations

from collections.abc import Mapping

READ, WRITE, BOTH = "%R~", "%W~", "~"
"""How an ACL pattern begins, by what a command may do with the keys it matches."""

_READING = """
    exists get hget hgetall hmget mget smembers watch xinfo|consumers xinfo|groups xinfo|stream xlen xpending
    xrange xread xreadgroup xrevrange zcard zrange zrangebyscore zscore
"""
_WRITING = """
    del expire hdel hset pexpire sadd set srem unlink xack xadd xdel xgroup|create xgroup|delconsumer
    xgroup|destroy xtrim zadd zrem zremrangebyscore
"""
_DOING_BOTH = "evalsha hincrby incrby xclaim zpopmin"

ACCESS: Mapping[str, str] = {
    name: access
    for access, names in ((READ, _READING), (WRITE, _WRITING), (BOTH, _DOING_BOTH))
    for name in names.split()
}
"""Of commands with keys."""

FUNCTIONS: Mapping[str, str] = {
    "version": "",
    "room": "requests",
    "enqueue": "request requests",
    "refill": "requests",
    "claim": "request journal owned requests released",
    "commit": "request journal owned",
    "release": "request owned released",
    "cancel": "request journal dead abandoned",
    "leave": "request abandoned",
    "overdue": "abandoned",
    "attach": "request journal abandoned",
    "reseed": "request journal released",
    "forget_consumer": "requests released heartbeat_verifier",
    "forget_verifier": "verifiers heartbeat_verifier owned",
    "add_labels": "calibration",
    "hold": "running",
    "let_go": "running",
    "open_inspected": "inspected",
    "read_keys": "api_keys api_keys_version",
    "write_keys": "api_keys api_keys_version",
}
"""Key classes that each function of the library declares. Redis asks for both rights on each of them, and then
for the right of each command inside, with the caller's user: so a function is never more than its caller."""
