"""Rival systems without SLO-customized selection, as their published schedulers behave.

A `System` is driven turn by turn; each turn advances the world's clock by at least one forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bench.simulator.drafter import SimDrafter
from bench.simulator.request import SimRequest
from bench.simulator.world import World


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
    """Chunked prefill with a small decoding batch filled in the order of ``rank``: priority, FastServe, VTC."""

    batch_tokens: int
    batch_requests: int
    rank: Callable[[SimRequest], float]

    def turn(self, world: World) -> None:
        decoding = sorted(world.scheduler.decoding, key=self.rank)[: self.batch_requests]
        run_plain(world, decoding, world.scheduler.plan_prefill(max(self.batch_tokens - len(decoding), 0)))


class TreeRule(Protocol):
    """Decides the tree shape to draft and which nodes of it are verified."""

    depth: int
    width: int

    def choose(self, logprobs: np.ndarray, rows: np.ndarray, num_rows: int) -> np.ndarray:
        """bool [nodes]: which to verify; path log-probabilities and the row of each node are given."""


@dataclass(slots=True)
class Speculative:
    """vLLM with a draft model: prompts first, then drafting and verifying in turn, every request alike."""

    batch_tokens: int
    drafter: SimDrafter
    rule: TreeRule
    draft_step_ms: float
    iteration_ms: float  # host time of an iteration beyond its models
    token_ms: float = 0.0  # and per verified token

    def turn(self, world: World) -> None:
        if run_prompts(world, self.batch_tokens):
            return
        decoding = world.scheduler.decoding
        if not decoding:
            return
        depths = np.full(len(decoding), self.rule.depth)
        drafted = self.drafter.draft(decoding, depths, self.rule.width, np.ones(len(decoding), np.float32), 0.0)
        sizes = [len(tree) for tree in drafted.trees]
        rows = np.repeat(np.arange(len(decoding)), sizes)
        logprobs = np.concatenate([tree.logprobs for tree in drafted.trees])
        chosen = self.rule.choose(logprobs, rows, len(decoding))
        counts = np.bincount(rows[chosen], minlength=len(decoding)).tolist()
        hits = np.bincount(rows[chosen & drafted.accepted], minlength=len(decoding)).tolist()
        draft_ms = drafted.num_levels * self.draft_step_ms
        host_ms = self.iteration_ms + self.token_ms * (len(decoding) + sum(counts))
        world.spent.speculation += draft_ms
        world.spent.scheduling += host_ms
        world.now_ms += draft_ms + host_ms
        nodes = world.make_room(decoding, dict(zip(decoding, counts, strict=True)))
        world.forward(nodes, [], dict(zip(decoding, hits, strict=True)))


@dataclass(slots=True)
class Chain:
    """vLLM's fixed number of speculative tokens."""

    depth: int
    width: int = 1

    def choose(self, logprobs: np.ndarray, rows: np.ndarray, num_rows: int) -> np.ndarray:
        return np.ones(len(logprobs), np.bool_)


@dataclass(slots=True)
class AdaptiveChain:
    """Draft slots of all requests ranked by survival probability into a profiled token budget."""

    depth: int
    budget: int
    width: int = 1

    def choose(self, logprobs: np.ndarray, rows: np.ndarray, num_rows: int) -> np.ndarray:
        chosen = np.zeros(len(logprobs), np.bool_)
        chosen[np.argsort(-logprobs, kind="stable")[: max(self.budget - num_rows, 0)]] = True
        return chosen


@dataclass(slots=True)
class TopTree:
    """EAGLE-2: the ``size`` likeliest nodes of each request's tree."""

    depth: int
    width: int
    size: int

    def choose(self, logprobs: np.ndarray, rows: np.ndarray, num_rows: int) -> np.ndarray:
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
