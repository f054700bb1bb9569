"""How a request's answer is told: kept with the request, so that any gateway can tell it the same way."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import msgpack

from shared.errors import UnreadableMessage

Endpoint = Literal["chat", "completions"]

VERSION = 1
MAX_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """Bytes in the field `form` of the request's hash, written and read by gateways only."""

    endpoint: Endpoint
    model: str
    created: int  # Unix time
    with_usage: bool = False  # a last chunk of a stream with usage and metrics
    with_tokens: bool = False
    resumable: bool = False  # a client that leaves may come back
    body_digest: str = ""  # of a body that was sent with an Idempotency-Key
    index: int = 0  # of the choice, where a body asked for several
    padding: int = 0  # bytes of which each event is a multiple, 0 for any size
    answer: str = ""  # request that the answer is called after: the first choice's, "" for itself
    service_tier: str = ""  # in use, "" where the client asked for none
    tpot_raised_from_ms: float = 0.0  # the target that was below the tenant's least, 0 for none
    arm: str = ""  # of a rollout, "" for none
    max_tokens_cut_from: int = 0  # what the client asked for above the tenant's limit, 0 for nothing

    def pack(self) -> bytes:
        packed: bytes = msgpack.packb({"v": VERSION, **asdict(self)})
        return packed

    @classmethod
    def unpack(cls, packed: bytes) -> Form:
        """Raises UnreadableMessage. Fields of a later release are left out, those that an earlier one lacks are
        empty."""
        names = {field.name: type(getattr(_EXAMPLE, field.name)) for field in fields(cls)}
        try:
            found: Any = msgpack.unpackb(packed[: MAX_BYTES + 1], max_map_len=64, max_array_len=0, max_ext_len=0)
            defaults = {name: getattr(_EXAMPLE, name) for name in names if name not in _FIRST}
            values = {name: found[name] if name in found else defaults[name] for name in names}
        except (ValueError, TypeError, KeyError, msgpack.UnpackException) as error:
            raise UnreadableMessage(f"form: {type(error).__name__}") from None
        if any(type(values[name]) is not kind for name, kind in names.items()):
            raise UnreadableMessage("form: a field has another type")
        if values["endpoint"] not in ("chat", "completions"):
            raise UnreadableMessage("form: unknown endpoint")
        return cls(**values)


_FIRST = (
    "endpoint", "model", "created", "with_usage", "with_tokens", "resumable", "body_digest", "index", "answer",
)  # fmt: skip  # fields of the first release, which are always there
_EXAMPLE = Form(endpoint="chat", model="", created=0)
