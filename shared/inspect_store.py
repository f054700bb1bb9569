"""`inspect:<id>` and `live:<verifier>` in Redis: commands that write, and what their replies hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from shared import codec
from shared.errors import UnreadableMessage
from shared.functions import Command
from shared.inspection import InspectedStep, InspectedTree, LiveVerifier
from shared.topics import INSPECT_MAXLEN, INSPECT_TTL_S, LIVE_TTL_S, Keys

Inspected = InspectedTree | InspectedStep

KINDS: Mapping[str, type[Inspected]] = {"tree": InspectedTree, "step": InspectedStep}
PAGE = 64  # entries that are read at a time: 32 iterations, which are less than a megabyte of JSON


def note(keys: Keys, request: str, message: Inspected) -> tuple[Command, Command]:
    """Appends one half of an iteration, and lets the stream live on, where there is one.

    Gateways make them, so that they can bound how many there are (`door_scripts.open_inspected`).
    """
    stream, kind = keys.inspect(request), "tree" if isinstance(message, InspectedTree) else "step"
    return (
        ("XADD", stream, "NOMKSTREAM", "MAXLEN", "~", INSPECT_MAXLEN, "*", kind, codec.encode(message)),
        ("EXPIRE", stream, INSPECT_TTL_S),
    )


def read(keys: Keys, request: str, after: str | None) -> Command:
    """The first PAGE entries after an id."""
    start = "-" if after is None else f"({after}"
    return ("XRANGE", keys.inspect(request), start, "+", "COUNT", PAGE)


def entries(reply: Iterable[Any]) -> list[tuple[str, Inspected]]:
    """Of `read`'s reply with their ids; what cannot be read is left out."""
    found = []
    for entry_id, fields in reply:
        try:
            found.append((entry_id.decode(), _message(fields)))
        except UnreadableMessage:
            continue
    return found


def _message(fields: Mapping[bytes, bytes]) -> Inspected:
    for name, body in fields.items():
        kind = KINDS.get(name.decode("ascii", "replace"))
        if kind is not None:
            return codec.decode(kind, body)
    raise UnreadableMessage("inspect: an entry of no known kind")


def tell_live(keys: Keys, verifier: str, message: LiveVerifier) -> Command:
    """Sets what a verifier does, for as long as it holds."""
    return ("SET", keys.live(verifier), codec.encode(message), "EX", LIVE_TTL_S)


def read_live(body: bytes) -> LiveVerifier:
    """Of `live:<verifier>`. Raises UnreadableMessage."""
    return codec.decode(LiveVerifier, body)
