"""Which slots of the KV pool belong to whom. Numpy only.

The pool hands out blocks of consecutive slots. Attention reads a sequence whose slots are consecutive
without copying, so blocks are handed out in runs: a sequence that grows takes the blocks behind its last
one, and a new one starts in the middle of the largest free run, which leaves room to grow on both sides.

A free block may be worth keeping for what it holds (`prefixes`): it is handed out after the others, those first
that were of use longest ago.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shared.errors import OutOfBlocks
from shared.inference.plan import Int32Array

FORGET_PART = 4  # of the blocks worth keeping, whenever there is no run without one


class BlockPool:
    """Free-list of `num_blocks` blocks of `block_size` slots; block b holds slots b*size to (b+1)*size - 1."""

    def __init__(self, num_blocks: int, block_size: int = 16) -> None:
        if num_blocks < 0 or block_size < 1:
            raise ValueError(f"no pool of {num_blocks} blocks of {block_size} slots")
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._is_free = np.ones(num_blocks, dtype=np.bool_)
        self._num_free = num_blocks
        self._ages = np.zeros(num_blocks, dtype=np.int64)
        self._used = np.zeros(num_blocks, dtype=np.int64)  # time of its last use, 0: not worth keeping
        self._time = 0

    @property
    def num_free(self) -> int:
        """Free blocks."""
        return self._num_free

    def blocks_for(self, num_tokens: int) -> int:
        """Blocks that hold `num_tokens` tokens."""
        return -(-num_tokens // self.block_size)

    def allocate(self, count: int, *, after: int | None = None) -> Int32Array:
        """Takes `count` blocks, [count] in the order to be used; consecutive if any free run is long enough.

        `after` names the block to be continued: the blocks right behind it are taken first.
        Raises OutOfBlocks, taking nothing, when fewer are free.
        """
        if count > self._num_free:
            raise OutOfBlocks(f"{count} KV blocks wanted, {self._num_free} of {self.num_blocks} free")
        parts: list[npt.NDArray[np.int64]] = []
        missing = count
        if after is not None and missing:
            parts.append(self._take(after + 1, self._free_length_at(after + 1, missing)))
            missing -= len(parts[-1])
        while missing:
            parts.append(self._take(*self._place(missing)))
            missing -= len(parts[-1])
        return np.concatenate([np.zeros(0, dtype=np.int64), *parts]).astype(np.int32)

    def free(self, blocks: Int32Array) -> None:
        """Gives blocks back. Raises ValueError for a block that is free already."""
        if np.any(self._is_free[blocks]) or len(np.unique(blocks)) != len(blocks):
            raise ValueError("a KV block was freed twice")
        self._is_free[blocks] = True
        self._num_free += len(blocks)

    def keep(self, blocks: Int32Array) -> None:
        """What these blocks hold was of use now."""
        self._time += 1
        self._used[blocks] = self._time

    def forget(self, block: int) -> None:
        """What a block holds is not worth keeping any more."""
        self._used[block] = 0

    def age(self, block: int) -> int:
        """How often a block was handed out."""
        return int(self._ages[block])

    def is_unchanged(self, block: int, age: int) -> bool:
        """Whether a block still is worth keeping and was not handed out since it had that age."""
        return bool(self._ages[block] == age and self._used[block])

    def slots_of(self, blocks: Int32Array) -> Int32Array:
        """Slots of blocks, [blocks * block_size], in order."""
        table = blocks[:, None] * np.int32(self.block_size) + np.arange(self.block_size, dtype=np.int32)
        slots: Int32Array = table.reshape(-1).astype(np.int32, copy=False)
        return slots

    def _take(self, start: int, count: int) -> npt.NDArray[np.int64]:
        self._is_free[start : start + count] = False
        self._num_free -= count
        self._ages[start : start + count] += 1
        self._used[start : start + count] = 0
        return np.arange(start, start + count)

    def _free_length_at(self, start: int, limit: int) -> int:
        used = np.flatnonzero(~self._is_free[start : start + limit])
        return int(used[0]) if len(used) else len(self._is_free[start : start + limit])

    def _place(self, count: int) -> tuple[int, int]:
        """Start and length of the best place for up to `count` blocks, at least one being free."""
        start, length = self._largest_run()
        while length < count and self._forget_oldest():
            start, length = self._largest_run()
        if length <= count:
            return start, length
        has_left_neighbour = start > 0
        return start + ((length - count) // 2 if has_left_neighbour else 0), count

    def _largest_run(self) -> tuple[int, int]:
        """Start and length of the longest run of free blocks with nothing worth keeping."""
        edges = np.flatnonzero(np.diff(self._is_free & (self._used == 0), prepend=False, append=False))
        if not len(edges):
            return 0, 0
        starts, lengths = edges[::2], edges[1::2] - edges[::2]
        largest = int(np.argmax(lengths))
        return int(starts[largest]), int(lengths[largest])

    def _forget_oldest(self) -> bool:
        """Gives up that part of the free blocks worth keeping that was of use longest ago; False without any."""
        kept = np.flatnonzero(self._is_free & (self._used > 0))
        if not len(kept):
            return False
        times = self._used[kept]
        limit = np.partition(times, len(kept) // FORGET_PART)[len(kept) // FORGET_PART]
        self._used[kept[times <= limit]] = 0
        return True


class SequenceSlots:
    """One sequence's slots in the pool, in logical order. `length` counts the leading ones with valid KV."""

    def __init__(self, pool: BlockPool) -> None:
        self.length = 0
        self._pool = pool
        self._blocks: Int32Array = np.zeros(0, dtype=np.int32)
        self._slots: Int32Array = np.zeros(0, dtype=np.int32)

    @property
    def capacity(self) -> int:
        """Tokens there is room for."""
        return len(self._slots)

    @property
    def num_blocks(self) -> int:
        """Blocks held."""
        return len(self._blocks)

    @property
    def blocks(self) -> Int32Array:
        """The blocks held, in logical order."""
        return self._blocks

    def reserve(self, num_tokens: int) -> None:
        """Grows the capacity to at least `num_tokens`. Raises OutOfBlocks, changing nothing."""
        missing = self._pool.blocks_for(num_tokens) - len(self._blocks)
        if missing > 0:
            last = int(self._blocks[-1]) if len(self._blocks) else None
            self._set(np.concatenate([self._blocks, self._pool.allocate(missing, after=last)]))

    def slots(self, start: int, stop: int) -> Int32Array:
        """Slots of the logical positions start to stop - 1, [stop - start]: a read-only view.

        Raises IndexError beyond the capacity.
        """
        if not 0 <= start <= stop <= len(self._slots):
            raise IndexError(f"slots {start}:{stop} of a sequence with room for {len(self._slots)}")
        return self._slots[start:stop]

    def trim(self, num_tokens: int) -> None:
        """Gives back the blocks beyond the first `num_tokens` tokens; KV beyond them is no longer valid."""
        keep = self._pool.blocks_for(num_tokens)
        if keep < len(self._blocks):
            self._pool.free(self._blocks[keep:])
            self._set(self._blocks[:keep])
        self.length = min(self.length, num_tokens)

    def free(self) -> None:
        """Gives everything back; the sequence is empty and may be used again."""
        self.trim(0)

    def _set(self, blocks: Int32Array) -> None:
        self._blocks = blocks
        self._slots = self._pool.slots_of(blocks)
        self._slots.flags.writeable = False
