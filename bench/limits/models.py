"""The models that are measured: the embedded pair, and the twin, which is large enough to cost something."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from bench.twin import cached_twin, count_multiplied
from models.paths import DRAFT, TARGET
from shared.inference.blocks import BlockPool, SequenceSlots
from shared.inference.loading import load_model
from shared.inference.runner import ModelRunner

__all__ = ["DRAFT", "TARGET", "Sides", "cached_twin", "sides"]

FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True)
class Sides:
    """One model twice: stock transformers, and our runner with its pool."""

    stock: Any
    runner: ModelRunner
    pool: BlockPool
    multiplied: int  # parameters that every token is multiplied by

    @property
    def weight_bytes(self) -> float:
        """Read by every forward pass."""
        return FLOAT_BYTES * self.multiplied

    def flops(self, num_tokens: int) -> float:
        """Of the products with the weights; attention is not counted."""
        return 2.0 * self.multiplied * num_tokens

    def sequence(self, num_tokens: int) -> SequenceSlots:
        """Slots for so many tokens."""
        slots = SequenceSlots(self.pool)
        slots.reserve(num_tokens)
        return slots


def sides(directory: Path, num_blocks: int) -> Sides:
    """Loaded in float32 on the CPU."""
    stock, own = (load_model(str(directory), device="cpu", dtype="float32") for _ in range(2))
    pool = BlockPool(num_blocks)
    return Sides(stock, ModelRunner(own, num_blocks * pool.block_size), pool, count_multiplied(directory))


@torch.inference_mode()
def stock_cache(model: Any, contexts: Sequence[Sequence[int]]) -> DynamicCache:
    """Stock's KV of contexts, each padded on the right to the longest."""
    longest = max(map(len, contexts))
    ids = np.zeros((len(contexts), longest), np.int64)
    for row, context in enumerate(contexts):
        ids[row, : len(context)] = context
    cache = DynamicCache()
    model(torch.from_numpy(ids), past_key_values=cache, use_cache=True, logits_to_keep=1)
    return cache
