"""One call of every command that some user has, on one key: what ACL DRYRUN is asked about."""

from __future__ import annotations

from deploy.acl.commands import ACCESS, FUNCTIONS

_WORDS = """
    del KEY | evalsha 0 1 KEY | exists KEY | expire KEY 1 | get KEY | hdel KEY f | hget KEY f | hgetall KEY |
    hincrby KEY f 1 | hmget KEY f | hset KEY f v | incrby KEY 1 | mget KEY | pexpire KEY 1 | sadd KEY m |
    set KEY v PX 1 | smembers KEY | srem KEY m | unlink KEY | watch KEY | xack KEY g 1-0 |
    xadd KEY NOMKSTREAM MAXLEN ~ 9 * body b | xclaim KEY g c 0 1-0 | xdel KEY 1-0 |
    xgroup create KEY g $ MKSTREAM | xgroup delconsumer KEY g c | xgroup destroy KEY g | xinfo consumers KEY g |
    xinfo groups KEY | xinfo stream KEY | xlen KEY | xpending KEY g | xrange KEY - + |
    xread COUNT 1 STREAMS KEY 0 | xreadgroup GROUP g c COUNT 1 NOACK STREAMS KEY > | xrevrange KEY + - |
    xtrim KEY MAXLEN 0 | zadd KEY NX 1 m | zcard KEY | zpopmin KEY | zrange KEY 0 -1 |
    zrangebyscore KEY -inf 1 LIMIT 0 1 | zrem KEY m | zremrangebyscore KEY -inf 1 | zscore KEY m
"""
_CONTAINERS = ("xgroup", "xinfo")


def _name(words: list[str]) -> str:
    return "|".join(words[:2]) if words[0] in _CONTAINERS else words[0]


INVOCATIONS = {_name(words): words for call in _WORDS.split("|") if (words := call.split())}
INVOCATIONS |= {
    f"fcall|adaserve_{name}": ["fcall", f"adaserve_{name}", "1", "KEY", "{cell}:"]
    for name, classes in FUNCTIONS.items()
    if classes
}
assert ACCESS.keys() <= INVOCATIONS.keys(), ACCESS.keys() - INVOCATIONS.keys()


def invocation(command: str, key: str) -> list[str]:
    """The words of a call on this key."""
    return [key if word == "KEY" else word for word in INVOCATIONS[command]]
