"""Continuous batching: who holds KV, what is prefilled next, who gives way. Pure, and without torch.

Requests join and leave every step. A prompt's KV is reserved whole at admission, so half-prefilled prompts cannot
block each other. When a running request has no slot for its next token, the youngest gives up its KV and is
recomputed later; tree nodes only ever use what is free.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from shared.errors import OutOfBlocks
from shared.inference.blocks import BlockPool, SequenceSlots

LEAST_PREFILL = 16


class Schedulable(Protocol):
    """A request as the scheduler sees it; the verifier's are `Generation`s, a simulation has its own."""

    @property
    def slots(self) -> SequenceSlots: ...

    @property
    def position(self) -> int: ...

    @property
    def num_output(self) -> int: ...

    @property
    def num_pending(self) -> int: ...

    @property
    def is_decoding(self) -> bool: ...

    @property
    def is_ready(self) -> bool: ...

    def ttft_slack_ms(self, redis_ms: float, /) -> float: ...

    def give_up_kv(self) -> None: ...


R = TypeVar("R", bound=Schedulable)
Int32 = npt.NDArray[np.int32]
NOTHING: Int32 = np.empty(0, np.int32)


def nothing_known(_: object) -> Int32:
    """Of a verifier without a prefix cache."""
    return NOTHING


class Scheduler(Generic[R]):
    """``waiting`` holds no KV, oldest first; ``running`` does, in order of admission."""

    def __init__(self, pool: BlockPool, *, max_running: int, prefill_chunk: int) -> None:
        self._pool = pool
        self._max_running = max_running
        self._prefill_chunk = prefill_chunk
        self.waiting: deque[R] = deque()
        self.running: list[R] = []
        self.num_preempted = 0

    @property
    def generations(self) -> list[R]:
        """Everyone served here."""
        return [*self.running, *self.waiting]

    @property
    def num_blocks(self) -> int:
        """Blocks of the KV pool."""
        return self._pool.num_blocks

    @property
    def num_blocks_used(self) -> int:
        """Blocks held by running requests."""
        return self._pool.num_blocks - self._pool.num_free

    @property
    def num_free_places(self) -> int:
        """Requests that could be taken and admitted now."""
        if self._ready or self._pool.num_free == 0:
            return 0
        return self._max_running - len(self.running) - len(self.waiting)

    @property
    def _ready(self) -> list[R]:
        """Those of ``waiting`` that could run now."""
        return [generation for generation in self.waiting if generation.is_ready]

    @property
    def decoding(self) -> list[R]:
        """Running requests whose next step draws a token."""
        return [generation for generation in self.running if generation.is_decoding]

    @property
    def prefilling(self) -> list[R]:
        """Running requests with more than one unfed token."""
        return [generation for generation in self.running if not generation.is_decoding]

    @property
    def num_prefill_tokens(self) -> int:
        """Prompt tokens that the next step could feed: of running and waiting requests, at most a chunk."""
        backlog = sum(generation.num_pending for generation in [*self.prefilling, *self._ready])
        return min(backlog, self._prefill_chunk)

    def prefill_slack_ms(self, redis_ms: float) -> float:
        """Time until the first of the first tokens still owed is late; infinite when none has a deadline.

        Those that are late already do not hide one that can still be in time; negative when all are late.
        """
        owed = (generation for generation in [*self.prefilling, *self._ready] if generation.num_output == 0)
        slacks = [generation.ttft_slack_ms(redis_ms) for generation in owed]
        return min((slack for slack in slacks if slack >= 0.0), default=min(slacks, default=math.inf))

    def add(self, generation: R) -> None:
        """A claimed request joins the queue."""
        self.waiting.append(generation)

    def admit(self, known: Callable[[R], Int32] = nothing_known) -> list[tuple[R, Int32]]:
        """Move waiting requests to running while their whole context fits; those that are not ready stay.

        Returns each with the slots that ``known`` finds to hold the KV of its first tokens; they may be free, and
        even be its own by now: what is worth having is copied before any KV is written.
        """
        admitted = []
        for generation in self._ready:
            if len(self.running) >= self._max_running or not self._fits(generation):
                break
            found = known(generation)
            generation.slots.reserve(generation.position + 1)
            self.waiting.remove(generation)
            self.running.append(generation)
            admitted.append((generation, found))
        return admitted

    def _fits(self, generation: R) -> bool:
        missing = self._pool.blocks_for(generation.position + 1) - generation.slots.num_blocks
        return missing <= self._pool.num_free

    def plan_prefill(self, granted: int | None = None) -> list[tuple[R, int]]:
        """The next chunk: (request, tokens to feed), oldest first.

        At most ``prefill_chunk`` tokens in all. What the selector ``granted`` is a hint: it may slow a prompt down
        to LEAST_PREFILL tokens, never stop it.
        """
        room = self._prefill_chunk
        if granted is not None:
            room = min(room, max(granted, LEAST_PREFILL))
        chunks = []
        for generation in self.prefilling:
            size = min(room, generation.num_pending)
            if size == 0:
                break
            chunks.append((generation, size))
            room -= size
        return chunks

    def make_room(self, decoding: list[R], num_nodes: Callable[[R], int]) -> dict[R, int]:
        """Reserve a slot for each request's next token, then as many of its tree's nodes as are free.

        Returns the number of nodes each still running request may verify. Others were preempted.
        """
        for generation in decoding:
            if generation in self.running:
                self._reserve_root(generation)
        survivors = [generation for generation in decoding if generation in self.running]
        return {generation: self._reserve_nodes(generation, num_nodes(generation)) for generation in survivors}

    def remove(self, generation: R) -> None:
        """The request has ended here: free its KV."""
        generation.slots.free()
        if generation in self.running:
            self.running.remove(generation)
        else:
            self.waiting.remove(generation)

    def _reserve_root(self, generation: R) -> None:
        while True:
            try:
                generation.slots.reserve(generation.position)
            except OutOfBlocks:
                if self._drop_scratch():
                    continue
                youngest = self.running[-1]
                self._preempt(youngest)
                if youngest is generation:
                    return
            else:
                return

    def _reserve_nodes(self, generation: R, wanted: int) -> int:
        room = generation.slots.capacity - generation.position + self._pool.num_free * self._pool.block_size
        granted = min(wanted, room)
        generation.slots.reserve(generation.position + granted)
        return granted

    def _drop_scratch(self) -> bool:
        """Give back the blocks that only hold old tree nodes; whether there were any."""
        before = self._pool.num_free
        for generation in self.running:
            generation.slots.trim(generation.position)
        return self._pool.num_free > before

    def _preempt(self, generation: R) -> None:
        self.running.remove(generation)
        generation.give_up_kv()
        self.waiting.appendleft(generation)
        self.num_preempted += 1
