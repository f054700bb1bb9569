"""Messages to bytes and back: a msgpack map of columns, strict and bounded.

The size is checked before parsing, and every msgpack length and the number of lists and maps are limited to what
the message's fields can hold: each byte of a hostile body could otherwise become a list of 64 bytes. Keys must be
exactly the message's fields plus the schema version ``v``; optional fields are absent at their defaults.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import msgpack

from shared.errors import UnreadableMessage
from shared.field_checks import from_wire
from shared.fields import (
    FieldError,
    Maybe,
    Plain,
    Several,
    Spec,
    Table,
    max_bytes,
    max_text_bytes,
    nothing_of,
    specs_of,
)
from shared.messages import Message

SCHEMA_VERSION = 2
MAX_BODY_BYTES = 16 << 20
_MAX_NAME_BYTES = 64  # of a field, and of an entry in a table
_MIN_ENTRIES = 64  # so that a field too many is named
_SPARE_BYTES = 1024

M = TypeVar("M", bound=Message)


def encode(message: Message) -> bytes:
    """The wire form of a message; any that could be built can be encoded."""
    kind = type(message)
    body: dict[str, Any] = {"v": SCHEMA_VERSION}
    for name, pack in _packers_of(kind):
        value = getattr(message, name)
        body[name] = value if pack is None else pack(value)
    for name, nothing in nothing_of(kind).items():
        if body[name] == nothing:
            del body[name]
    packed: bytes = msgpack.packb(body)
    return packed


def encode_gained(*, request: str, start: int, tokens: bytes, digest: bytes) -> bytes:
    """`encode` of the TokenEvent that a request which goes on gets with each step: nothing but tokens.

    A step has one for every request, and a message that is built and checked field by field costs four times as
    much. So what a TokenEvent checks is the caller's to know here: ``tokens`` (int32 LE) are ids, ``request``,
    ``start`` and ``digest`` those of a request that it serves.
    """
    body = {"v": SCHEMA_VERSION, "request": request, "start": start, "tokens": tokens, "digest": digest}
    packed: bytes = msgpack.packb(body | _NOTHING_ELSE)
    return packed


_NOTHING_ELSE = {"finish": None, "text_length": -1, "stats": None, "error": None, "logprobs": b""}


def decode(message_type: type[M], body: bytes) -> M:
    """The message in ``body``. Raises UnreadableMessage, naming the field where there is one."""
    kind = message_type.__name__
    fields = _unpack_map(kind, body, _limits_of(message_type))
    if fields.keys() != _required_of(message_type):  # as a rule nothing optional is there
        _check_names(kind, message_type, fields)
    try:
        message = from_wire(message_type, fields)
        message.check_together()
    except FieldError as error:
        raise UnreadableMessage(f"{kind}: {error}") from None
    return message


def _check_names(kind: str, message_type: type[Message], fields: dict[str, Any]) -> None:
    names = fields.keys()
    odd = sorted(map(str, (_required_of(message_type) - names) | (names - specs_of(message_type).keys())))
    if odd:
        raise UnreadableMessage(f"{kind}: field {odd[0][:64]!r} is missing or unknown")


_required: dict[type, frozenset[str]] = {}


def _required_of(message_type: type[Message]) -> frozenset[str]:
    """Names of the fields that a body must have."""
    found = _required.get(message_type)
    if found is None:
        names = specs_of(message_type).keys() - nothing_of(message_type).keys()
        found = _required[message_type] = frozenset(names)
    return found


def _unpack_map(kind: str, body: bytes, limits: _Limits) -> dict[str, Any]:
    if len(body) > limits.body:
        raise UnreadableMessage(f"{kind}: body of {len(body)} bytes, limit {limits.body}")
    count = _counter(limits.containers)
    try:
        fields = msgpack.unpackb(
            body,
            max_str_len=limits.text,
            max_bin_len=limits.body,
            max_array_len=limits.items,
            max_map_len=limits.entries,
            max_ext_len=0,
            strict_map_key=True,
            list_hook=count,
            object_hook=count,
        )
    except (ValueError, RecursionError, TypeError) as error:
        raise UnreadableMessage(f"{kind}: not msgpack ({type(error).__name__})") from None
    except msgpack.UnpackException as error:
        raise UnreadableMessage(f"{kind}: not msgpack ({type(error).__name__})") from None
    if type(fields) is not dict:
        raise UnreadableMessage(f"{kind}: body is not a map")
    version = fields.pop("v", None)
    if type(version) is not int or version != SCHEMA_VERSION:
        raise UnreadableMessage(f"{kind}: schema version is not {SCHEMA_VERSION}")
    return fields


@dataclass(frozen=True, slots=True)
class _Limits:
    """What a message of one kind can have at most: bytes in all and in a text, items of a list, entries of a map,
    lists and maps together."""

    body: int
    text: int
    items: int
    entries: int
    containers: int


_packers: dict[type, list[tuple[str, Callable[[Any], Any] | None]]] = {}


def _packers_of(message_type: type[Message]) -> list[tuple[str, Callable[[Any], Any] | None]]:
    """Every field in order; None for what msgpack carries as it is. Found once, as the others."""
    found = _packers.get(message_type)
    if found is None:
        specs = specs_of(message_type).items()
        found = _packers[message_type] = [
            (name, None if isinstance(spec, Plain) else spec.pack) for name, spec in specs
        ]
    return found


_limits: dict[type, _Limits] = {}


def _limits_of(message_type: type[Message]) -> _Limits:
    limits = _limits.get(message_type)
    if limits is None:
        limits = _limits[message_type] = _find_limits(message_type)
    return limits


def _find_limits(message_type: type[Message]) -> _Limits:
    specs = list(specs_of(message_type).values())
    whole = sum(max_bytes(spec) + _MAX_NAME_BYTES for spec in specs) + _SPARE_BYTES
    inner = [spec for spec in map(_bare, specs) if isinstance(spec, Several | Table)]
    tables = [spec.limit for spec in inner if isinstance(spec, Table)]
    return _Limits(
        body=min(MAX_BODY_BYTES, whole),
        text=max([_MAX_NAME_BYTES, *map(max_text_bytes, specs)]),
        items=max((spec.limit for spec in inner if isinstance(spec, Several)), default=0),
        entries=max([_MIN_ENTRIES, len(specs) + 1, *tables]),
        containers=1 + len(inner),
    )


def _bare(spec: Spec) -> Spec:
    return spec.inner if isinstance(spec, Maybe) else spec


def _counter(limit: int) -> Callable[[Any], Any]:
    """A hook of msgpack's that is called with every finished list and map: it ends the parsing of a wide body."""
    num_left = limit

    def count(container: Any) -> Any:
        nonlocal num_left
        num_left -= 1
        if num_left < 0:
            raise ValueError("too many lists and maps")
        return container

    return count
