"""Prefixes whose KV is still somewhere in the pool, by tenant and tokens. Numpy only.

A block of the pool keeps its KV until it is handed out again, whether its sequence lives or not. So a context that
begins as one before it need not be computed there: its KV is copied into the new sequence's own, consecutive slots
(docs/adr/0010-prefix-cache.md). Blocks are named by a chain of digests over the tenant and all tokens up to their
end: who does not send the same tokens for the same tenant cannot find them.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

from shared.inference.blocks import BlockPool
from shared.inference.plan import Int32Array

_NAME_BYTES = 16


class Prefix:
    """The names of one sequence's leading full blocks: ``names[i]`` stands for the first i + 1 blocks' tokens."""

    def __init__(self, tenant: str, block_size: int) -> None:
        self._size = block_size
        self._root = blake2b(tenant.encode(), digest_size=_NAME_BYTES, person=b"adaserve-prefix").digest()
        self.names: list[bytes] = []
        self.num_kept = 0  # leading blocks whose KV the pool is known to keep

    def extend(self, tokens: Sequence[int], num_tokens: int) -> None:
        """Name the full blocks of the first ``num_tokens`` of ``tokens``, which must begin as before."""
        for index in range(len(self.names), num_tokens // self._size):
            block = np.array(tokens[index * self._size : (index + 1) * self._size], "<u4").tobytes()
            parent = self.names[-1] if self.names else self._root
            self.names.append(blake2b(parent + block, digest_size=_NAME_BYTES).digest())


class PrefixCache:
    """Where in the pool the KV of named blocks is. Entries whose block was handed out again do not count."""

    def __init__(self, pool: BlockPool) -> None:
        self._pool = pool
        self._places: dict[bytes, tuple[int, int]] = {}  # block, and how often it had been handed out then

    def new_prefix(self, tenant: str) -> Prefix:
        """Of a new sequence."""
        return Prefix(tenant, self._pool.block_size)

    def find(self, prefix: Prefix, tokens: Sequence[int]) -> Int32Array:
        """Slots with the KV of as many leading blocks of ``tokens`` as are known, never of its last token.

        Valid until KV is written next; the last token's own forward is needed for its logits.
        """
        most = len(tokens) - 1
        prefix.extend(tokens, most)
        blocks = []
        for name in prefix.names[: most // self._pool.block_size]:  # it may have been fed whole before
            block, age = self._places.get(name, (-1, 0))
            if block < 0 or not self._pool.is_unchanged(block, age):
                break
            blocks.append(block)
        found = np.array(blocks, np.int32)
        self._pool.keep(found)  # what is used is what is wanted again
        return self._pool.slots_of(found)

    def publish(self, prefix: Prefix, tokens: Sequence[int], num_valid: int, blocks: Int32Array) -> None:
        """The KV of the first ``num_valid`` tokens is in ``blocks`` now and stays as it is while they are held."""
        prefix.extend(tokens, num_valid)
        full = num_valid // self._pool.block_size
        if full <= prefix.num_kept:
            return
        new = blocks[prefix.num_kept : full]
        self._pool.keep(new)
        for name, block in zip(prefix.names[prefix.num_kept : full], new.tolist(), strict=True):
            before, age = self._places.get(name, (block, 0))
            if before != block and self._pool.is_unchanged(before, age):
                self._pool.forget(before)  # one of two is enough, and this one is held
            self._places[name] = (block, self._pool.age(block))
        prefix.num_kept = full
        if len(self._places) > 2 * self._pool.num_blocks:
            self._drop_lost()

    def _drop_lost(self) -> None:
        self._places = {
            name: (block, age)
            for name, (block, age) in self._places.items()
            if self._pool.is_unchanged(block, age)
        }
