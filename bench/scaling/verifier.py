"""A verifier of the simulated cell: the simulator's world and the real scheduler."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from bench.scaling.drafters import Drafters
from bench.scaling.pace import Pace
from bench.scaling.selecting import Learned, Real, Selecting
from bench.simulator.acceptance import Text
from bench.simulator.hardware import Engine, Hardware
from bench.simulator.request import SimRequest
from bench.simulator.systems import SystemSpec
from bench.simulator.world import World
from services.verifier.scheduler import Scheduler
from shared.errors import OutOfBlocks
from shared.inference.blocks import BlockPool
from shared.inference.plan import Int32Array

WINDOW = 8  # entries of a tier's stream that no verifier has read: as many are read at once (docs/protocol.md)


@dataclass(frozen=True, slots=True)
class Model:
    """What all verifiers of a cell are alike in; with ``text`` the real selection runs over it."""

    hardware: Hardware
    spec: SystemSpec
    pace: Pace
    seed: int = 1  # of what verifiers draw
    text: Text | None = None

    def selecting(self, number: int) -> Selecting:
        """Of one verifier."""
        if self.text is not None:
            return Real(number, self.hardware, self.spec, self.text)
        return Learned(number, self.hardware, self.pace, self.seed)


class CountedPool(BlockPool):
    """As many blocks as a real one, but nobody asks which: the same outcome in half the time."""

    def __init__(self, num_blocks: int, block_size: int) -> None:
        super().__init__(num_blocks, block_size)
        self._free = num_blocks

    @property
    def num_free(self) -> int:
        return self._free

    def allocate(self, count: int, *, after: int | None = None) -> Int32Array:  # noqa: ARG002
        if count > self._free:
            raise OutOfBlocks(f"{count} KV blocks wanted, {self._free} of {self.num_blocks} free")
        self._free -= count
        return np.empty(count, np.int32)

    def free(self, blocks: Int32Array) -> None:
        self._free += len(blocks)

    def slots_of(self, blocks: Int32Array) -> Int32Array:
        return np.empty(len(blocks) * self.block_size, np.int32)


class CountedWorld(World):
    """The simulator's, over such a pool."""

    def __init__(self, hardware: Hardware, engine: Engine, *, max_running: int, prefill_chunk: int) -> None:
        super().__init__(hardware, engine, max_running=max_running, prefill_chunk=prefill_chunk)
        self.pool = CountedPool(self.pool.num_blocks, self.pool.block_size)
        self.scheduler = Scheduler(self.pool, max_running=max_running, prefill_chunk=prefill_chunk)


class SimVerifier:
    """One replica. It claims what it has room for."""

    def __init__(self, number: int, model: Model, ready_ms: float) -> None:
        hardware, spec = model.hardware, model.spec
        self.number = number
        self.ready_ms = ready_ms
        self.world = CountedWorld(
            hardware,
            spec.engine(hardware),
            max_running=spec.max_running(hardware),
            prefill_chunk=spec.prefill_chunk,
        )
        self.world.now_ms = ready_ms
        self.leaves_ms: float | None = None
        self.busy_ms = 0.0
        self._selecting = model.selecting(number)

    @property
    def is_idle(self) -> bool:
        """Whether it serves nobody."""
        scheduler = self.world.scheduler
        return not scheduler.running and not scheduler.waiting

    @property
    def num_unfed(self) -> int:
        """Claimed requests whose context is not fed yet."""
        scheduler = self.world.scheduler
        return len(scheduler.waiting) + len(scheduler.prefilling)

    def claim(self, queue: deque[SimRequest]) -> None:
        """Take what there is room for, at most WINDOW requests, from the front of the queue."""
        scheduler = self.world.scheduler
        for _ in range(min(WINDOW, scheduler.num_free_places, len(queue))):
            request = queue.popleft()
            request.slots = self.world.new_slots()
            scheduler.add(request)
        scheduler.admit()

    def give_back(self) -> list[SimRequest]:
        """All that it serves, oldest first; their context is fed again elsewhere."""
        given = sorted(self.world.scheduler.generations, key=lambda request: request.arrival_ms)
        for request in given:
            self.world.scheduler.remove(request)
        return given

    def turn(self, drafters: Drafters) -> None:
        """One step: trees, meanwhile prompts, then a pass over roots, nodes and prompts."""
        world, began_ms = self.world, self.world.now_ms
        if world.scheduler.decoding:
            self._selecting.decode(world, drafters)
        else:
            world.forward({}, world.scheduler.plan_prefill())
        self.busy_ms += world.now_ms - began_ms
