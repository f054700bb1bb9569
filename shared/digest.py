"""The hash chain over a request's tokens: which prefix a journal, an event or a draft row speaks of.

digest_0 is eight zero bytes; digest_k = blake2b(digest_{k-1} || uint32 LE token, 8 bytes), from the first
prompt token on (docs/protocol.md, words). Redis and the journal hold it as hex.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from struct import Struct

SIZE = 8
EMPTY = bytes(SIZE)

_pack_token = Struct("<I").pack


def extend(digest: bytes, tokens: Iterable[int]) -> bytes:
    """The digest after ``tokens`` are appended to the prefix that ``digest`` stands for."""
    for token in tokens:
        digest = blake2b(digest + _pack_token(token), digest_size=SIZE).digest()
    return digest
