"""Messages to bytes and back: a msgpack map of columns, strict and bounded.

The size is checked before parsing and every msgpack length is limited, because a hostile message of 100 KB can
otherwise cost tens of megabytes. Keys must be exactly the message's fields plus the schema version ``v``.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgpack

from shared.errors import UnreadableMessage
from shared.fields import FieldError, specs_of
from shared.messages import Message

SCHEMA_VERSION = 2
MAX_BODY_BYTES = 16 << 20
MAX_TEXT_BYTES = 16384
MAX_ITEMS = 256

M = TypeVar("M", bound=Message)


def encode(message: Message) -> bytes:
    """The wire form of a message; any that could be built can be encoded."""
    body = {name: spec.pack(getattr(message, name)) for name, spec in specs_of(type(message)).items()}
    packed: bytes = msgpack.packb({"v": SCHEMA_VERSION, **body})
    return packed


def decode(message_type: type[M], body: bytes) -> M:
    """The message in ``body``. Raises UnreadableMessage, naming the field where there is one."""
    kind = message_type.__name__
    fields = _unpack_map(kind, body)
    specs = specs_of(message_type)
    if fields.keys() != specs.keys():
        odd = sorted(map(str, fields.keys() ^ specs.keys()))[0]
        raise UnreadableMessage(f"{kind}: field {odd[:64]!r} is missing or unknown")
    name = ""
    try:
        values = {}
        for name, spec in specs.items():
            values[name] = spec.unpack(fields[name])
    except FieldError as error:
        raise UnreadableMessage(f"{kind}: {name} {error}") from None
    try:
        return message_type(**values)
    except FieldError as error:
        raise UnreadableMessage(f"{kind}: {error}") from None


def _unpack_map(kind: str, body: bytes) -> dict[str, Any]:
    if len(body) > MAX_BODY_BYTES:
        raise UnreadableMessage(f"{kind}: body of {len(body)} bytes, limit {MAX_BODY_BYTES}")
    try:
        fields = msgpack.unpackb(
            body,
            max_str_len=MAX_TEXT_BYTES,
            max_bin_len=MAX_BODY_BYTES,
            max_array_len=MAX_ITEMS,
            max_map_len=MAX_ITEMS,
            max_ext_len=0,
            strict_map_key=True,
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
