"""`python -m deploy.doctor_rights`: what `adaserve doctor` tries for each service's user, from `deploy.acl`.

The command line is installed without this folder, so it has the table as commands, ready for ACL DRYRUN.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from deploy.acl.commands import FUNCTIONS
from deploy.acl.file import CELL, allowed
from deploy.acl.key_classes import KINDS, patterns
from deploy.acl.users import USERS, User

PLACE = Path(__file__).parents[1] / "cli" / "diagnosis" / "rights.json"
REST: Mapping[str, str] = {
    "evalsha": "", "expire": "1", "get": "", "hdel": "f", "hget": "f", "hincrby": "f 1", "hmget": "f",
    "hset": "f v", "incrby": "1", "pexpire": "1", "sadd": "m", "set": "v", "srem": "m", "xack": "g 1",
    "xadd": "* f v", "xclaim": "g c 1 1", "xdel": "1", "xgroup|create": "g 0", "xgroup|delconsumer": "g c",
    "xgroup|destroy": "g", "xinfo|consumers": "g", "xpending": "g", "xrange": "- +", "xrevrange": "+ -",
    "xtrim": "MAXLEN 0", "zadd": "1 m", "zrange": "0 -1", "zrangebyscore": "0 1", "zrem": "m",
    "zremrangebyscore": "0 1", "zscore": "m",
}  # fmt: skip
"""What follows the key of a command, the least that it takes."""
BEFORE: Mapping[str, str] = {
    "xread": "XREAD STREAMS {key} 0",
    "xreadgroup": "XREADGROUP GROUP g c STREAMS {key} >",
    "evalsha": f"EVALSHA {'0' * 40} 1 {{key}}",
}
"""Commands in which the key does not come first."""
KEYLESS: Mapping[str, str] = {"function|load": "x", "script|load": "x", "client|setinfo": "lib-name x"}
UNTRIED = frozenset({"client|setinfo", "exec", "multi", "unwatch"})
"""What works without, or is asked of the transaction's other commands too."""


def commands(user: User) -> Iterator[str]:
    """Each with a key of each class, and each function with those that it declares."""
    sample = {name: glob.replace("?", "0").replace("*", "x") for name, glob in patterns("default").items()}
    sample = {name: key.replace("{default}", f"{{{CELL}}}") for name, key in sample.items()}
    for name, classes in sorted(allowed(user).items()):
        if name.startswith("fcall|"):
            function = name.partition("|")[2]
            declared = FUNCTIONS[function.removeprefix("adaserve_")].split()
            yield " ".join(["FCALL", function, str(len(declared)), *(sample[one] for one in declared)])
            continue
        for one in sorted(classes):
            yield _with_key(name, sample[one])
    for name in user.keyless.split():
        if name not in UNTRIED:
            yield f"{_words(name)} {KEYLESS.get(name, '')}".rstrip()


def _with_key(name: str, key: str) -> str:
    if name in BEFORE:
        return BEFORE[name].format(key=key)
    return f"{_words(name)} {key} {REST.get(name, '')}".rstrip()


def _words(name: str) -> str:
    return name.upper().replace("|", " ")


def table() -> str:
    """The file's text."""
    told = {kind: list(commands(USERS[kind])) for kind in KINDS}
    return json.dumps(told, indent=1) + "\n"


if __name__ == "__main__":
    PLACE.write_text(table(), encoding="utf-8")
