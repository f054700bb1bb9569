"""Rival systems without SLO-customized selection, as their published schedulers behave.

A `System` is driven turn by turn; each turn advances the world's clock by at least one forward pass.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from bench.simulator.drafter import SimDrafter
from bench.simulator.hardware import DraftHost
from bench.simulator.request import SimRequest
from bench.simulator.world import World
from shared.latency import LatencyModel

Logprobs = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Chosen = npt.NDArray[np.bool_]


class System(Protocol):
    """One serving system."""

    def turn(self, world: World) -> None:
        """One iteration, after arrivals were admitted."""


@dataclass(slots=True)
class PrefillFirst:
    """vLLM's default of the paper's time: prompts, whenever there are any, run alone and before decoding."""

    batch_tokens: int

    def turn(self, world: World) -> None:
        if not run_prompts(world, self.batch_tokens):
            run_plain(world, world.scheduler.decoding, [])


@dataclass(slots=True)
class Sarathi:
    """Chunked prefill: every pass holds all decoding tokens and prompt chunks up to ``batch_tokens``."""

    batch_tokens: int

    def turn(self, world: World) -> None:
        decoding = world.scheduler.decoding
        run_plain(world, decoding, world.scheduler.plan_prefill(max(self.batch_tokens - len(decoding), 0)))


@dataclass(slots=True)
class Ordered:
    """Chunked prefill with a small decoding batch filled in the order of ``rank``: priority, FastServe."""

    batch_tokens: int
    batch_requests: int
    rank: Callable[[SimRequest], float]

    def turn(self, world: World) -> None:
        decoding = sorted(world.scheduler.decoding, key=self.rank)[: self.batch_requests]
        run_plain(world, decoding, world.scheduler.plan_prefill(max(self.batch_tokens - len(decoding), 0)))


@dataclass(slots=True)
class FairShare:
    """VTC: the small batch goes to the categories that were served least so far."""

    batch_tokens: int
    batch_requests: int
    served: Counter[str] = field(default_factory=Counter)

    def turn(self, world: World) -> None:
        decoding = sorted(world.scheduler.decoding, key=lambda r: self.served[r.category] + r.num_output)
        batch = decoding[: self.batch_requests]
        self.served.update(request.category for request in batch)
        run_plain(world, batch, world.scheduler.plan_prefill(max(self.batch_tokens - len(batch), 0)))


def mlfq_level(request: SimRequest) -> float:
    """FastServe's queue: a request sinks as its output doubles."""
    return float(request.num_output.bit_length())


class TreeRule(Protocol):
    """Decides the tree shape to draft and which nodes of it are verified."""

    depth: int
    width: int

    def choose(self, logprobs: Logprobs, rows: Rows, num_rows: int) -> Chosen:
        """bool [nodes]: which to verify; path log-probabilities and the row of each node are given."""


@dataclass(slots=True)
class Speculative:
    """Drafting and verifying in turn, every request alike, whatever its target.

    vLLM's runs prompts first; with ``mixes_prompts`` chunks travel in the same pass, as in chunked prefill.
    """

    batch_tokens: int
    drafter: SimDrafter
    rule: TreeRule
    host: DraftHost
    mixes_prompts: bool = False

    def turn(self, world: World) -> None:
        if not self.mixes_prompts and run_prompts(world, self.batch_tokens):
            return
        decoding = world.scheduler.decoding
        if not decoding:
            run_prompts(world, self.batch_tokens)
            return
        depths = np.full(len(decoding), self.rule.depth)
        drafted = self.drafter.draft(decoding, depths, self.rule.width, np.ones(len(decoding), np.float32), 0.0)
        sizes = [len(tree) for tree in drafted.trees]
        rows = np.repeat(np.arange(len(decoding)), sizes)
        logprobs = np.concatenate([tree.logprobs for tree in drafted.trees])
        chosen = self.rule.choose(logprobs, rows, len(decoding))
        counts = np.bincount(rows[chosen], minlength=len(decoding)).tolist()
        hits = np.bincount(rows[chosen & drafted.accepted], minlength=len(decoding)).tolist()
        draft_ms = drafted.num_levels * self.host.level_ms
        host_ms = self.host.iteration_ms + self.host.token_ms * (len(decoding) + sum(counts))
        world.spent.speculation += draft_ms
        world.spent.drafting += draft_ms
        world.spent.scheduling += host_ms
        world.now_ms += draft_ms + host_ms
        nodes = world.make_room(decoding, dict(zip(decoding, counts, strict=True)))
        chunks = world.scheduler.plan_prefill(self.batch_tokens) if self.mixes_prompts else []
        world.forward(nodes, chunks, dict(zip(decoding, hits, strict=True)))


@dataclass(slots=True)
class Chain:
    """vLLM's fixed number of speculative tokens."""

    depth: int
    width: int = 1

    def choose(self, logprobs: Logprobs, rows: Rows, num_rows: int) -> Chosen:
        return np.ones(len(logprobs), np.bool_)


@dataclass(slots=True)
class AdaptiveChain:
    """Draft slots of all requests ranked by survival probability into a profiled token budget."""

    depth: int
    budget: int
    width: int = 1

    @classmethod
    def profiled(cls, depth: int, model: LatencyModel) -> AdaptiveChain:
        """The budget where a pass takes twice as long as over one token: the end of the memory-bound region."""
        return cls(depth, model.budget(2.0))

    def choose(self, logprobs: Logprobs, rows: Rows, num_rows: int) -> Chosen:
        chosen = np.zeros(len(logprobs), np.bool_)
        chosen[np.argsort(-logprobs, kind="stable")[: max(self.budget - num_rows, 0)]] = True
        return chosen


@dataclass(slots=True)
class TopTree:
    """EAGLE-2: the ``size`` likeliest nodes of each request's tree."""

    depth: int
    width: int
    size: int

    def choose(self, logprobs: Logprobs, rows: Rows, num_rows: int) -> Chosen:
        order = np.lexsort((-logprobs, rows))
        starts = np.searchsorted(rows, np.arange(num_rows))
        chosen = np.zeros(len(logprobs), np.bool_)
        chosen[order] = np.arange(len(order)) - starts[rows[order]] < self.size
        return chosen


def run_prompts(world: World, batch_tokens: int) -> bool:
    """A pass over prompts alone, whole ones as far as they fit; whether there were any."""
    chunks = world.scheduler.plan_prefill(batch_tokens)
    if chunks:
        world.forward({}, chunks)
    return bool(chunks)


def run_plain(world: World, decoding: Sequence[SimRequest], chunks: Sequence[tuple[SimRequest, int]]) -> None:
    """A pass without speculation."""
    nodes = world.make_room(decoding, {})
    if nodes or chunks:
        world.forward(nodes, [chunk for chunk in chunks if chunk[0] in world.scheduler.running])
