"""A language model that is a table: logits are a hash of the exact context. It makes KV errors visible.

Its "KV" of a slot is the token and position written there. A fed token's context is gathered from the slots its
row lets it see, so a wrong slot, mask, position or compaction changes the logits, or fails outright.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.inference.plan import ForwardPlan

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TableModel:
    """Logits of a context. ``noise`` > 0 makes a draft model: the target's logits plus its own."""

    vocab_size: int
    seed: int = 0
    noise: float = 0.0

    def logits(self, context: list[int]) -> Float64:
        """float64 [vocab_size]."""
        return _logits(self, tuple(context))


@lru_cache(maxsize=100_000)
def _logits(model: TableModel, context: tuple[int, ...]) -> Float64:
    key = blake2b(np.array([*context, len(context)], np.int64).tobytes(), digest_size=8).digest()
    number = int.from_bytes(key, "little")
    base = np.random.default_rng([number, 0]).normal(0.0, 2.0, model.vocab_size)
    if model.noise > 0.0:
        base += np.random.default_rng([number, 1 + model.seed]).normal(0.0, model.noise, model.vocab_size)
    base.flags.writeable = False
    return base


def remember_few() -> None:
    """For processes whose memory is watched."""
    global _logits
    _logits = lru_cache(maxsize=2_000)(_logits.__wrapped__)


class TableCache:
    """Slot -> (token, position)."""

    def __init__(self, num_slots: int) -> None:
        self.tokens = np.full(num_slots, -1, np.int64)
        self.positions = np.full(num_slots, -1, np.int64)

    def move(self, source: npt.NDArray[np.int32], destination: npt.NDArray[np.int32]) -> None:
        self.tokens[destination] = self.tokens[source]
        self.positions[destination] = self.positions[source]


@dataclass(slots=True)
class TableRunner:
    """ModelRunner's interface over a TableModel."""

    model: TableModel
    num_slots: int
    cache: TableCache = field(init=False)
    num_forwards: int = 0

    def __post_init__(self) -> None:
        self.cache = TableCache(self.num_slots)

    @property
    def vocab_size(self) -> int:
        return self.model.vocab_size

    def logits(self, plan: ForwardPlan) -> Float64:
        self.num_forwards += 1
        self.cache.tokens[plan.slots] = plan.token_ids
        self.cache.positions[plan.slots] = plan.positions
        wanted = [self.model.logits(self._context(plan, index)) for index in plan.logit_rows.tolist()]
        return np.array(wanted).reshape(len(wanted), self.vocab_size)

    def top(
        self, plan: ForwardPlan, width: int, allowed: Mapping[int, npt.NDArray[np.bool_]] | None = None
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        logits = self.logits(plan)
        for row, mask in (allowed or {}).items():
            logits[row][~mask] = -np.inf
        logprobs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        ids = np.argsort(-logprobs, axis=1, kind="stable")[:, :width]
        return ids.astype(np.int32), np.take_along_axis(logprobs, ids, axis=1).astype(np.float32)

    def _context(self, plan: ForwardPlan, fed: int) -> list[int]:
        """The tokens that fed token sees, itself included, which must be one of each position up to its own."""
        row = int(np.searchsorted(plan.row_offsets, fed, side="right") - 1)
        first, end = plan.row_offsets[row : row + 2].tolist()
        keys = [
            *plan.context_slots[plan.context_offsets[row] : plan.context_offsets[row + 1]].tolist(),
            *plan.slots[first:end].tolist(),
        ]
        committed, mask = int(plan.committed[row]), plan.mask_of(row)
        if mask is None:
            seen = keys[: len(keys) - (end - first) + fed - first + 1]
        else:
            seen = keys[:committed] + [
                key for key, ok in zip(keys[committed:], mask[fed - first], strict=True) if ok
            ]
        positions = self.cache.positions[seen].tolist()
        assert sorted(positions) == list(range(int(plan.positions[fed]) + 1)), "context is not one path"
        tokens: Any = self.cache.tokens[seen][np.argsort(positions)]
        context: list[int] = tokens.tolist()
        return context
