"""The ACL file of one cell: a line for each user (`aclfile` in redis.conf, Redis 7 or newer and Valkey).

Each line allows commands without keys, then in selectors, one pair of brackets each, commands on classes of keys.
Every command stands in one selector with all of its classes, because what names several keys must find them all in
the same one. FCALL is one command with the keys of all functions of a user: a rule for each would be of a
form that Redis warns of at every start, and guards nothing that the rules of the commands inside do not.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping

from deploy.acl.commands import ACCESS, BOTH, FUNCTIONS
from deploy.acl.key_classes import patterns
from deploy.acl.users import USERS, User
from shared.errors import ConfigurationError

CELL = "__CELL__"
_HASH = re.compile(r"[0-9a-f]{64}")
_OFF = "user default reset off"
_FUNCTION = "fcall|adaserve_"


def placeholder(user: str) -> str:
    """What stands in the template for the SHA-256 of a user's password."""
    return f"__HASH_{user}__"


def template() -> str:
    """The file with placeholders for the cell and every hash, for the chart."""
    return _file(CELL, {user: placeholder(user) for user in USERS})


def acl_file(cell: str, hashes: Mapping[str, str]) -> str:
    """The file for users whose passwords have these SHA-256s, in hex; users without one are off.

    Raises ConfigurationError for what is no cell, no user or no hash.
    """
    for user, digest in hashes.items():
        if user not in USERS:
            raise ConfigurationError(f"{user!r} is no user; there are {', '.join(USERS)}")
        if not _HASH.fullmatch(digest):
            raise ConfigurationError(f"{user}: the SHA-256 of a password has 64 hex digits in lower case")
    return _file(cell, hashes)


def _file(cell: str, hashes: Mapping[str, str]) -> str:
    lines = [_OFF]
    for name, user in USERS.items():
        state = f"on #{hashes[name]}" if name in hashes else "off"
        lines.append(f"user {name} reset {state} {rules(user, cell)}")
    return "\n".join(lines) + "\n"


def rules(user: User, cell: str) -> str:
    """What follows name and password in a user's line."""
    open_to_all = [f"+{command}" for command in user.keyless.split()]
    open_to_all += ["+fcall"] if any(not FUNCTIONS[name] for name in user.functions.split()) else []
    selectors = [f"({' '.join((*commands, *keys))})" for commands, keys in _selectors(user, cell)]
    return " ".join((*open_to_all, *selectors))


def allowed(user: User) -> Mapping[str, frozenset[str]]:
    """Classes of keys of each command of a user; a function is `fcall|` and its name."""
    found: dict[str, set[str]] = defaultdict(set)
    for key_class, commands in user.keyed.items():
        for command in commands.split():
            found[command].add(key_class)
    for name in user.functions.split():
        found[_function(name)] |= set(FUNCTIONS[name].split())
    return {command: frozenset(classes) for command, classes in found.items()}


def _selectors(user: User, cell: str) -> Iterator[tuple[list[str], list[str]]]:
    """Commands that have the same classes and do the same with them, and the patterns of these."""
    known = patterns(cell)
    of_commands: dict[str, frozenset[str]] = defaultdict(frozenset)
    for name, classes in allowed(user).items():
        of_commands["fcall" if name.startswith(_FUNCTION) else name] |= classes
    groups: dict[tuple[frozenset[str], str], list[str]] = defaultdict(list)
    for command, classes in of_commands.items():
        if classes:
            groups[classes, ACCESS.get(command, BOTH)].append(f"+{command}")
    for (classes, access), commands in groups.items():
        yield sorted(commands), [f"{access}{pattern}" for name, pattern in known.items() if name in classes]


def _function(name: str) -> str:
    return f"{_FUNCTION}{name}"
