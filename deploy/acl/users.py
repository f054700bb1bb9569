"""What each service does in Redis, read off its code: commands by class of keys, functions, and what has no key.

The rule is least privilege: nothing is here that no code path of the service needs. Drafter and selector give
hints (docs/architecture.md), so they can neither read nor change a request. Only gateways load the function
library: what it holds runs with the rights of whoever calls it, so whoever may load it has everybody's rights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class User:
    """Words are separated by spaces. `keyed`: commands by class of keys, `keyless`: commands that name no key."""

    keyed: Mapping[str, str] = field(default_factory=dict)
    functions: str = ""
    keyless: str = ""


_OWN_STREAM = "del expire xgroup|create xgroup|destroy"
_QUEUE = "xack xadd xclaim xdel xgroup|create xgroup|delconsumer xinfo|consumers xlen xpending xreadgroup"

GATEWAY = User(
    keyed={
        # Itself, and who else is there.
        "gateways": "sadd smembers srem",
        "heartbeat_gateway": "del get set",
        "tokens": f"xadd xread {_OWN_STREAM}",
        "verifiers": "smembers srem",
        "heartbeat_verifier": "exists get mget",
        "drafters": "smembers",
        "heartbeat_drafter": "get",
        "selectors": "smembers",
        "heartbeat_selector": "get",
        "live": "get",
        "watched": "set",
        # The queue: how long it is, and all that happens in it by enqueueing and cancelling.
        "requests": "xack xadd xdel xlen xpending xrange",
        "released": "xack xadd xdel xlen xrange",
        "waiting": "exists zadd zcard zpopmin zrange zrem",
        "tags": "del hmget hset",
        "backlog": "del hdel hget hincrby",
        "dead": "xlen",
        "select": "xlen",
        "control": "xadd xlen",
        # Requests: made, attached to, restored, ended.
        "request": "exists hget hgetall hmget hset pexpire",
        "journal": "del exists pexpire xadd xlen xrange",
        "abandoned": "zadd zrangebyscore zrem zscore",
        "owned": "exists srem",
        "inspect": "exists expire unlink xadd xrange",
        "inspected": "zadd zrange zrem",
        # What operators and tenants have: orders, keys, limits, rollouts, usage.
        "modes": "hdel hgetall hset",
        "audit": "xadd xrevrange",
        "api_keys": "hget hgetall hset",
        "api_keys_version": "get set",
        "rollout": "get set watch",
        "arms": "expire hgetall hincrby",
        "usage": "expire hget hgetall hset",
        "running": "pexpire zadd zcard zrem zremrangebyscore zscore",
        "spent": "evalsha expire incrby",
    },
    functions="version room enqueue cancel leave overdue attach reseed hold let_go open_inspected read_keys "
    "write_keys forget_verifier",
    keyless="exec function|load info multi script|load time unwatch",
)

VERIFIER = User(
    keyed={
        "verifiers": "sadd smembers srem",
        "heartbeat_verifier": "del exists mget set",
        "verify": f"xread {_OWN_STREAM}",
        "control": "xinfo|stream xread",
        "drafters": "smembers srem",
        "heartbeat_drafter": "mget",
        "draft": "xadd",
        # The queue is the verifiers' work; what waits behind it moves up when they take some.
        "requests": _QUEUE,
        "released": _QUEUE,
        "waiting": "exists zcard zpopmin zrem",
        "tags": "del hset",
        "backlog": "del hdel hincrby",
        "dead": "xadd",
        # Requests: claimed, committed, released, restored, ended.
        "request": "hget hgetall hmget hset pexpire",
        "journal": "del exists pexpire xadd xlen xrange",
        "owned": "exists sadd smembers srem",
        "abandoned": "zadd zrem",
        "tokens": "xadd",
        "usage": "expire hget hset",
        # What it knows and tells.
        "calibration": "expire hget hgetall hset",
        "profile": "set",
        "modes": "hgetall",
        "watched": "exists",
        "live": "set",
        "inspect": "expire xadd",
    },
    functions="claim commit release cancel reseed refill forget_consumer forget_verifier add_labels version",
    keyless="exec multi time",
)

DRAFTER = User(
    keyed={
        "drafters": "sadd srem",
        "heartbeat_drafter": "del set",
        "draft": f"xread {_OWN_STREAM}",
        "verifiers": "smembers",
        "heartbeat_verifier": "mget",
        "select": "xadd",
        "control": "xadd",
    },
    keyless="exec multi",
)

SELECTOR = User(
    keyed={
        "selectors": "sadd srem",
        "heartbeat_selector": "del set",
        "select": "expire xgroup|create xgroup|delconsumer xreadgroup",
        "verify": "xadd",
        "profile": "get",
        "calibration": "hgetall",
        "inspect": "expire xadd",
    },
    keyless="exec multi",
)

OPERATOR = User(
    keyed={
        "requests": "xinfo|groups xlen",
        "released": "xinfo|groups xlen",
        "waiting": "zcard",
        "select": "xinfo|groups",
        "dead": "xdel xlen xrange xrevrange xtrim",  # what the runbook does with dead letters
        **dict.fromkeys(("gateways", "drafters", "selectors", "verifiers"), "smembers"),
        **dict.fromkeys(
            ("heartbeat_gateway", "heartbeat_drafter", "heartbeat_selector", "heartbeat_verifier"), "mget"
        ),
    },
    functions="version",
    keyless="acl|dryrun acl|log acl|whoami info ping time",
)

# Not CONFIG GET, which tells passwords, nor SLOWLOG GET, which tells arguments: those of a commit are its tokens.
EXPORTER = User(keyless="client|setname info latency|latest ping slowlog|len")

USERS: Mapping[str, User] = {
    "gateway": GATEWAY,
    "drafter": DRAFTER,
    "selector": SELECTOR,
    "verifier": VERIFIER,
    "operator": OPERATOR,
    "exporter": EXPORTER,
}
"""By name; every one of them has a password, and `default` is off."""
