"""Hostile inputs from valid ones, drawn with a seed: damaged messages, lying lengths, nested and wide values."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack

from shared.codec import MAX_BODY_BYTES
from shared.inspection import InspectedStep, InspectedTree, LiveVerifier
from shared.messages import (
    CandidateTrees,
    ControlEvent,
    DraftRequest,
    Message,
    Request,
    SelectedTrees,
    TokenEvent,
)

KINDS: tuple[type[Message], ...] = (
    Request,
    TokenEvent,
    ControlEvent,
    DraftRequest,
    CandidateTrees,
    SelectedTrees,
    InspectedTree,
    InspectedStep,
    LiveVerifier,
)
LARGE_SHARE = 0.002  # of the inputs: megabytes each
GOLDEN = Path(__file__).parent.parent / "unit" / "shared" / "golden"

_ONE_BYTE = [
    b"\x90",
    b"\x80",
    b"\xa0",
    b"\xc0",
    b"\x00",
    b"\xc4\x00",
]  # empty list, map, text; nil, zero, no bytes
_HEADERS = [b"\xdc\xff\xff", b"\xdd\xff\xff\xff\xff", b"\xde\xff\xff", b"\xdf\x7f\xff\xff\xff", b"\x9f", b"\x8f"]
_LENGTHS = [
    b"\xd9\xff",
    b"\xda\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xc9\x7f\xff\xff\xff",
]
_EVENT_PARTS = [
    "0" * 32,
    "f" * 33,
    "",
    ":",
    "-1",
    "12",
    "9" * 40,
    "٣",
    "abcdef01",
    "\x00",
    "ÿ",
    " ",
    "\n",
    "%00",
    "inf",
]
_TRACE_PARTS = ["00", "ff", "01", "-", "0" * 32, "a" * 32, "b" * 16, "0" * 16, "x", "", "\n", "-" * 70_000, "Ａ"]


def golden(kind: type[Message]) -> bytes:
    """A valid message's bytes."""
    return bytes.fromhex((GOLDEN / f"{kind.__name__}.hex").read_text())


def packed(chance: random.Random, valid: bytes) -> bytes:
    """A hostile body for the reader that takes the msgpack map ``valid``."""
    return chance.choice(_LARGE if chance.random() < LARGE_SHARE else _SMALL)(chance, valid)


def _noise(chance: random.Random, _: bytes) -> bytes:
    return chance.randbytes(chance.randrange(300))


def _truncated(chance: random.Random, valid: bytes) -> bytes:
    return valid[: chance.randrange(len(valid))] + chance.randbytes(chance.choice((0, 0, 3)))


def _flipped(chance: random.Random, valid: bytes) -> bytes:
    body = bytearray(valid)
    for _ in range(chance.randint(1, 6)):
        body[chance.randrange(len(body))] = chance.randrange(256)
    return bytes(body)


def _spliced(chance: random.Random, valid: bytes) -> bytes:
    """A lying header or a run of tiny values in the middle."""
    at = chance.randrange(len(valid))
    run = chance.choice(_ONE_BYTE) * chance.choice((1, 20, 400))
    return valid[:at] + chance.choice(_HEADERS + _LENGTHS + [run]) + valid[at + chance.choice((0, 1, 5)) :]


def _other_values(chance: random.Random, valid: bytes) -> bytes:
    """The right fields with wrong values: types, bounds, columns of other lengths."""
    fields = msgpack.unpackb(valid)
    for name in chance.sample(sorted(fields), chance.randint(1, min(3, len(fields)))):
        fields[name] = _value(chance)
    if chance.random() < 0.2:
        fields[chance.choice(("extra", "", "v", b"kind", "k" * 64))] = _value(chance)
    body: bytes = msgpack.packb(fields)
    return body


def _value(chance: random.Random) -> Any:
    return chance.choice(
        [
            lambda: chance.randint(-(2**63), 2**64 - 1),
            lambda: chance.choice((True, False, None, 0, -1, 2**63, 2**64 - 1)),
            lambda: chance.choice((float("nan"), float("inf"), float("-inf"), -0.0, 1e308, 5e-324)),
            lambda: chance.randbytes(chance.choice((0, 1, 3, 4, 8, 16, 64, 1000))),
            lambda: chance.choice(
                ("", "\x00", "🙂" * chance.choice((1, 70, 300)), "x" * chance.choice((255, 5000)))
            ),
            lambda: [chance.choice((0, "x", [], {}, None))] * chance.choice((0, 1, 64, 300)),
            lambda: {"a" * n: chance.choice((1.0, 1, [])) for n in range(chance.choice((0, 3, 70)))},
            lambda: msgpack.Timestamp(chance.randrange(2**32), 0),
            lambda: msgpack.ExtType(chance.randrange(127), b""),
        ]
    )()


def _nested(chance: random.Random, _: bytes) -> bytes:
    depth = chance.choice((2, 30, 511, 1023, 1025, 5000))
    opening = chance.choice((b"\x91", b"\x81\xa1a", b"\xdc\x00\x40", b"\x92\x90"))
    return b"\x81\xa1a" * chance.choice((0, 1)) + opening * depth + chance.choice((b"\xc0", b""))


def _wide(chance: random.Random, size: int) -> bytes:
    """Lists of lists of tiny values, each list within its limit."""
    width = chance.choice((15, 64, 256))
    body = chance.choice(_ONE_BYTE)
    while len(body) * width < size:
        body = b"\xdc" + struct.pack(">H", width) + body * width
    return b"\x82\xa1v\x02\xa1a" + body


_SMALL: list[Callable[[random.Random, bytes], bytes]] = [
    _noise,
    _truncated,
    _flipped,
    _spliced,
    _other_values,
    _other_values,
    _nested,
    lambda chance, _: _wide(chance, chance.choice((300, 20_000))),
]


def _wide_strings(chance: random.Random, _: bytes) -> bytes:
    """Each character takes four bytes in memory because of one that needs them."""
    text = ("🙂" + "x" * chance.choice((250, 1000, 131_000))).encode()
    item = b"\xdb" + struct.pack(">I", len(text)) + text
    lists = b"\xdc\x00\x40" + item * 64
    return b"\x8f" + b"".join(b"\xa1" + bytes([97 + n]) + lists for n in range(15))[: MAX_BODY_BYTES - 1]


def _huge_value(chance: random.Random, valid: bytes) -> bytes:
    """The right fields, one of which holds megabytes."""
    fields = msgpack.unpackb(valid)
    name = chance.choice(sorted(name for name, value in fields.items() if isinstance(value, bytes | str)))
    fields[name] = bytes(chance.choice((1 << 20, (8 << 20) - 8, MAX_BODY_BYTES - 4096)))
    body: bytes = msgpack.packb(fields)
    return body


_LARGE: list[Callable[[random.Random, bytes], bytes]] = [
    lambda chance, _: _wide(chance, chance.choice((100_000, 4 << 20)))[:MAX_BODY_BYTES],
    lambda chance, _: (
        chance.choice(_HEADERS) + chance.choice(_ONE_BYTE) * chance.choice((1 << 16, MAX_BODY_BYTES - 5))
    ),
    lambda chance, _: chance.choice((b"\x91", b"\x81\xa1a")) * (1 << 20),
    lambda _chance, _valid: b"\xc0" * (MAX_BODY_BYTES + 1),
    _wide_strings,
    _huge_value,
]


def event_id(chance: random.Random) -> str:
    """A `Last-Event-ID` as a hostile client may send it."""
    if chance.random() < LARGE_SHARE:
        return chance.choice(("0", ":", "f" * 32 + ":")) * (1 << 15)
    valid = f"{'0' * 32}:{chance.randrange(10**8)}:{chance.randbytes(4).hex()}"
    return _text(chance, valid, _EVENT_PARTS, ":")


def traceparent(chance: random.Random) -> str:
    """A `traceparent` as a hostile client may send it."""
    valid = f"00-{chance.randbytes(16).hex()}-{chance.randbytes(8).hex()}-{chance.randbytes(1).hex()}"
    return _text(chance, valid, _TRACE_PARTS, "-")


def _text(chance: random.Random, valid: str, parts: list[str], between: str) -> str:
    match chance.randrange(4):
        case 0:
            return between.join(chance.choices(parts, k=chance.randint(1, 6)))
        case 1:
            return chance.randbytes(chance.randrange(80)).decode("latin-1")  # as headers are decoded
        case 2:
            return valid[: chance.randrange(len(valid) + 1)]
        case _:
            at = chance.randrange(len(valid) + 1)
            return valid[:at] + chance.choice([*parts, chr(chance.randrange(256)), ""]) + valid[at + 1 :]
