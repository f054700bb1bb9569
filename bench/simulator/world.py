"""The simulated verifier: its clock, the real scheduler over a real block pool, and passes of T(n, S, r)."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.simulator.hardware import Engine, Hardware
from bench.simulator.request import SimRequest
from services.verifier.scheduler import Scheduler
from shared.inference.blocks import BlockPool, SequenceSlots

BLOCK_SIZE = 16
Chunks = Sequence[tuple[SimRequest, int]]


@dataclass(slots=True)
class Spent:
    """Where the verifier's time went, ms; ``drafting`` is how long the drafter was busy."""

    scheduling: float = 0.0
    speculation: float = 0.0
    verification: float = 0.0
    drafting: float = 0.0


class World:
    """Everything a system acts on. ``now_ms`` is the verifier's clock."""

    def __init__(
        self,
        hardware: Hardware,
        engine: Engine,
        *,
        max_running: int,
        prefill_chunk: int,
    ) -> None:
        self.hardware = hardware
        self.engine = engine
        self.now_ms = 0.0
        self.spent = Spent()
        self.ended: list[SimRequest] = []
        self.pool = BlockPool(hardware.kv_tokens // BLOCK_SIZE, BLOCK_SIZE)
        self.scheduler: Scheduler[SimRequest] = Scheduler(
            self.pool, max_running=max_running, prefill_chunk=prefill_chunk
        )
        self._arrivals: deque[SimRequest] = deque()

    def expect(self, requests: Sequence[SimRequest]) -> None:
        """These will arrive, in order."""
        self._arrivals.extend(requests)

    def new_slots(self) -> SequenceSlots:
        """Of one request."""
        return SequenceSlots(self.pool)

    @property
    def is_over(self) -> bool:
        """Whether everything has arrived and ended."""
        return not self._arrivals and not self.scheduler.running and not self.scheduler.waiting

    def admit(self) -> None:
        """Take in what has arrived; jump to the next arrival when there is nothing to do."""
        scheduler = self.scheduler
        if not scheduler.running and not scheduler.waiting and self._arrivals:
            self.now_ms = max(self.now_ms, self._arrivals[0].arrival_ms)
        while self._arrivals and self._arrivals[0].arrival_ms <= self.now_ms:
            scheduler.add(self._arrivals.popleft())
        scheduler.admit()

    def forward_ms(self, decoding: Mapping[SimRequest, int], chunks: Chunks) -> float:
        """T of one pass over roots with so many tree nodes each, and prompt chunks."""
        tokens = len(decoding) + sum(decoding.values()) + sum(size for _, size in chunks)
        context = sum(request.position for request in decoding) + sum(r.slots.length + n for r, n in chunks)
        return self.engine.forward_ms(tokens, context, len(decoding) + len(chunks))

    def forward(
        self, decoding: Mapping[SimRequest, int], chunks: Chunks, accepted: Mapping[SimRequest, int] | None = None
    ) -> float:
        """Run the pass and commit: ``accepted`` drafted tokens and one more for each decoding request.

        A chunk that ends its context draws a token too. Returns the milliseconds it took.
        """
        took_ms = self.forward_ms(decoding, chunks)
        self.now_ms += took_ms
        self.spent.verification += took_ms
        for request, size in chunks:
            request.slots.length += size
            if request.num_pending == 0:
                self._commit(request, 1)
        for request in decoding:
            count = 1 + (accepted.get(request, 0) if accepted else 0)
            if accepted is not None and decoding[request]:
                request.num_steps += 1
                request.num_accepted += min(count, request.length - request.num_output) - 1
            request.slots.length += count
            self._commit(request, count)
        return took_ms

    def make_room(self, decoding: Sequence[SimRequest], nodes: Mapping[SimRequest, int]) -> dict[SimRequest, int]:
        """Slots for roots and nodes, by the real scheduler; may preempt."""
        return self.scheduler.make_room(list(decoding), lambda request: nodes.get(request, 0))

    def _commit(self, request: SimRequest, count: int) -> None:
        request.emit(count, self.now_ms)
        if request.has_ended:
            self.scheduler.remove(request)
            self.ended.append(request)
