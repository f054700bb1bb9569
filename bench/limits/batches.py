"""One batch of the verifier's kind for both sides: packed for our runner, padded with a 4-D mask for stock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from bench.limits.models import Sides, stock_cache
from shared.inference.plan import ForwardPlan, PlanRow, build_plan, chain_row

Int32 = npt.NDArray[np.int32]

IDS = 4096  # of the embedded pair; a twin's ids beyond are padding that no text has


@dataclass(frozen=True, slots=True)
class Work:
    """One request's part: a context whose KV is there, and nodes to feed; a chunk of a prompt is a chain."""

    context: Int32
    tokens: Int32
    parents: Int32
    wants_all: bool  # logits of every node, as verification does, or of the last one

    @property
    def wanted(self) -> Int32:
        """Nodes whose logits are wanted."""
        first = 0 if self.wants_all else len(self.tokens) - 1
        return np.arange(first, len(self.tokens), dtype=np.int32)


def mixed_works(*, trees: Sequence[int], chunks: Sequence[int], seed: int = 0) -> list[Work]:
    """Roots with trees of so many nodes, and chunks of prompts, over contexts of 64 to 192 tokens."""
    rng = np.random.default_rng(seed)
    works = []
    for size, is_tree in [*((size, True) for size in trees), *((size, False) for size in chunks)]:
        context = rng.integers(0, IDS, int(rng.integers(64, 193)), np.int32)
        tokens = rng.integers(0, IDS, size + is_tree, np.int32)
        chain = np.arange(-1, len(tokens) - 1, dtype=np.int32)
        parents = np.minimum(chain, rng.integers(-1, size, len(tokens), np.int32)) if is_tree else chain
        if is_tree:
            parents[1:] = np.maximum(parents[1:], 0)  # below the root
        works.append(Work(context, tokens, parents, wants_all=is_tree))
    return works


def chain_work(num_tokens: int, context: int = 128) -> Work:
    """A decode step, or a chain to verify."""
    rng = np.random.default_rng(num_tokens)
    tokens = rng.integers(0, IDS, num_tokens, np.int32)
    parents = np.arange(-1, num_tokens - 1, dtype=np.int32)
    return Work(rng.integers(0, IDS, context, np.int32), tokens, parents, wants_all=True)


def packed(sides: Sides, works: Sequence[Work]) -> ForwardPlan:
    """The plan, with the contexts' KV written."""
    rows = []
    for work in works:
        slots = sides.sequence(len(work.context) + len(work.tokens))
        known = len(work.context)
        fill = chain_row(slots.slots(0, 0), work.context, slots.slots(0, known), last_logits=False)
        sides.runner.forward(build_plan([fill]))
        rows.append(
            PlanRow(
                context=slots.slots(0, known),
                tokens=work.tokens,
                parents=work.parents,
                slots=slots.slots(known, known + len(work.tokens)),
                logits=work.wanted,
            )
        )
    return build_plan(rows)


@dataclass(frozen=True, slots=True)
class Padded:
    """The same work as one rectangle."""

    ids: torch.Tensor  # [R, T]
    positions: torch.Tensor  # [R, T]
    mask: torch.Tensor  # additive [R, 1, T, C + T]

    @classmethod
    def of(cls, works: Sequence[Work]) -> Padded:
        """T and C are the longest of all."""
        size, known = max(len(work.tokens) for work in works), max(len(work.context) for work in works)
        ids, positions = np.zeros((2, len(works), size), np.int64)
        sees = np.zeros((len(works), 1, size, known + size), np.bool_)
        for row, work in enumerate(works):
            fed, closure = len(work.tokens), ancestors(work.parents)
            ids[row, :fed] = work.tokens
            positions[row, :fed] = len(work.context) - 1 + closure.sum(1)
            sees[row, 0, :, : len(work.context)] = True
            sees[row, 0, :fed, known : known + fed] = closure
        mask = torch.zeros(sees.shape).masked_fill_(~torch.from_numpy(sees), -torch.inf)
        return cls(torch.from_numpy(ids), torch.from_numpy(positions), mask)


def ancestors(parents: Int32) -> npt.NDArray[np.bool_]:
    """Whether node i sees node j, its ancestor or itself: bool [n, n]."""
    closure = np.eye(len(parents), dtype=np.bool_)
    for node, parent in enumerate(parents.tolist()):
        if parent >= 0:
            closure[node] |= closure[parent]
    return closure


def stock_forward(sides: Sides, works: Sequence[Work]) -> Callable[[], torch.Tensor]:
    """A call that runs the padded batch through stock and leaves its cache as it was: logits [R, T, vocab]."""
    cache = stock_cache(sides.stock, [work.context.tolist() for work in works])
    padded = Padded.of(works)

    @torch.inference_mode()
    def run() -> torch.Tensor:
        output = sides.stock(
            padded.ids,
            position_ids=padded.positions,
            attention_mask=padded.mask,
            past_key_values=cache,
            use_cache=True,
        )
        cache.crop(-padded.ids.shape[1])
        logits: torch.Tensor = output.logits
        return logits

    return run


def largest_difference(works: Sequence[Work], own: npt.NDArray[np.floating], stock: torch.Tensor) -> float:
    """Of the wanted logits of IDS, [L, vocab] and [R, T, vocab]: both sides have done the same work."""
    wanted = np.concatenate([stock[row].numpy()[work.wanted] for row, work in enumerate(works)])
    return float(np.abs(own[:, :IDS] - wanted[:, :IDS]).max())
