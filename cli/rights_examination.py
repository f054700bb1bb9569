"""Who may do what in Redis: what each service's user may not and must, and what it was refused lately."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any

from redis import Redis as Client
from redis.exceptions import NoPermissionError, ResponseError

from cli.diagnosis.snapshot import Refusal
from shared.replies import text
from shared.topics import Keys

CELL = "__CELL__"
MAX_LOG = 128
LATELY_S = 600.0  # refusals before that may have been mended


def needs() -> Mapping[str, Sequence[str]]:
    """User of a service -> commands that it must be allowed, as words, with `__CELL__` for the cell's name.

    Written by `python -m deploy.doctor_rights` from the table that the ACL file is written from (`deploy.acl`).
    """
    told: Mapping[str, Sequence[str]] = json.loads(
        files("cli.diagnosis").joinpath("rights.json").read_text(encoding="utf-8")
    )
    return told


def rights_of(client: Client, keys: Keys) -> Mapping[str, Sequence[str] | None]:
    """What each service's user may not, though the service does it; None for a user that does not exist.

    Raises NoPermissionError where this user may not ask.
    """
    return {user: _denied(client, user, words, keys) for user, words in needs().items()}


def are_of_another_cell(rights: Mapping[str, Sequence[str] | None], keys: Keys) -> bool:
    """Whether none of the services' users may do anything with the keys of this cell."""
    there = {user: frozenset(denied) for user, denied in rights.items() if denied is not None}
    return bool(there) and all(
        command.replace(CELL, keys.cell) in denied
        for user, denied in there.items()
        for command in needs()[user]
        if CELL in command
    )


def _denied(client: Client, user: str, needed: Sequence[str], keys: Keys) -> list[str] | None:
    commands = [words.replace(CELL, keys.cell) for words in needed]
    pipeline = client.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command("ACL", "DRYRUN", user, *command.split())  # type: ignore[no-untyped-call]
    denied = []
    for command, reply in zip(commands, pipeline.execute(raise_on_error=False), strict=True):
        if isinstance(reply, NoPermissionError):
            raise reply
        if isinstance(reply, ResponseError):
            if "not found" in str(reply):
                return None
            continue  # a command that this server does not have
        if text(reply) != "OK":
            denied.append(command)
    return denied


def refusals(client: Client) -> Sequence[Refusal]:
    """Of users of services in the last minutes, the latest first. Raises NoPermissionError."""
    entries: list[Any] = client.execute_command("ACL", "LOG", MAX_LOG)  # type: ignore[no-untyped-call]
    return tuple(_recent(entries, frozenset(needs())))


def _recent(entries: Sequence[Any], users: frozenset[str]) -> Iterator[Refusal]:
    for entry in entries:
        told = {text(name): value for name, value in _pairs(entry)}
        user, age_s = text(told["username"]), float(text(told["age-seconds"]))
        if user in users and age_s <= LATELY_S:
            yield Refusal(
                user=user,
                reason=text(told["reason"]),
                of=text(told["object"]),
                count=int(told["count"]),
                age_s=age_s,
            )


def _pairs(entry: Any) -> Iterator[tuple[Any, Any]]:
    """Flat as the server answers, or the map that redis-py makes of it."""
    if isinstance(entry, Mapping):
        yield from entry.items()
    else:
        yield from zip(entry[::2], entry[1::2], strict=True)
