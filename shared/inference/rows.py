"""A forward plan prepared for the attention of every layer: key ranges and masks, row by row.

Tensors go to the device only here, once per pass, so that a pass on CUDA does not wait in between.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from shared.inference.kv import KVCache
from shared.inference.plan import ForwardPlan, Int32Array


@dataclass(frozen=True, slots=True)
class AttentionRow:
    """One row's queries and keys. Keys are `num_keys` pool slots from `first_key` on, or those in `key_slots`."""

    first_query: int  # among the T fed tokens
    num_queries: int
    first_key: int
    num_keys: int
    key_slots: torch.Tensor | None  # [keys] where the slots are not consecutive
    mask: torch.Tensor | None  # additive [queries, keys]
    is_causal: bool  # queries and keys are the same tokens in order; then there is no mask


class PackedRows:
    """One forward pass' rows and the slots its new KV goes to. The plan feeds at least one token."""

    def __init__(self, plan: ForwardPlan, cache: KVCache) -> None:
        device = cache.data.device
        self.cache = cache
        self.slots = _upload(plan.slots, device)  # [T]
        self.first_slot = _first_if_consecutive(plan.slots)
        self._plan = plan
        self._context_slots = _upload(plan.context_slots, device)
        self._masks = torch.from_numpy(plan.masks).to(device)
        consecutive = _rows_consecutive(plan)
        self._full = [self._row(index, bool(consecutive[index])) for index in range(plan.num_rows)]
        self._windowed: dict[int, list[AttentionRow]] = {}

    def rows(self, window: int | None) -> list[AttentionRow]:
        """The rows for a layer that sees everything, or only keys fewer than `window` positions back."""
        if window is None:
            return self._full
        if window not in self._windowed:
            self._windowed[window] = [self._narrowed(index, row, window) for index, row in enumerate(self._full)]
        return self._windowed[window]

    def _row(self, index: int, is_consecutive: bool) -> AttentionRow:
        plan, (queries, context) = self._plan, _ranges(self._plan, index)
        num_queries, num_context = queries.stop - queries.start, context.stop - context.start
        is_tree = plan.mask_offsets[index] < plan.mask_offsets[index + 1]
        needs_mask = bool(is_tree) or (num_queries > 1 and num_context > 0)
        first = plan.context_slots[context.start] if num_context else plan.slots[queries.start]
        return AttentionRow(
            first_query=queries.start,
            num_queries=num_queries,
            first_key=int(first),
            num_keys=num_context + num_queries,
            key_slots=None if is_consecutive else torch.cat([self._context_slots[context], self.slots[queries]]),
            mask=self._additive(self._visible(index)) if needs_mask else None,
            is_causal=not needs_mask and num_queries > 1,
        )

    def _visible(self, index: int) -> torch.Tensor:
        """Which keys each of the row's queries attends to, without a window: bool [queries, keys]."""
        queries, context = _ranges(self._plan, index)
        num_queries, num_context = queries.stop - queries.start, context.stop - context.start
        visible = torch.ones(num_queries, num_context + num_queries, dtype=torch.bool, device=self._masks.device)
        start, stop = self._plan.mask_offsets[index : index + 2]
        if start == stop:
            return visible.tril_(num_context)
        visible[:, int(self._plan.committed[index]) :] = self._masks[start:stop].view(num_queries, -1)
        return visible

    def _narrowed(self, index: int, row: AttentionRow, window: int) -> AttentionRow:
        queries, context = _ranges(self._plan, index)
        positions = self._plan.positions[queries]
        if positions.max() < window:
            return row
        key_positions = np.concatenate([self._plan.context_positions[context], positions])
        is_near = torch.from_numpy(positions[:, None] - key_positions < window).to(self._masks.device)
        return replace(row, mask=self._additive(self._visible(index) & is_near), is_causal=False)

    def _additive(self, visible: torch.Tensor) -> torch.Tensor:
        # Additive once per pass: a boolean mask would be converted again by every layer.
        zeros = torch.zeros_like(visible, dtype=self.cache.data.dtype)
        return zeros.masked_fill_(~visible, float("-inf"))


def _ranges(plan: ForwardPlan, index: int) -> tuple[slice, slice]:
    """The row's range of fed tokens, and of keys that are in the pool already."""
    return (
        slice(int(plan.row_offsets[index]), int(plan.row_offsets[index + 1])),
        slice(int(plan.context_offsets[index]), int(plan.context_offsets[index + 1])),
    )


def _first_if_consecutive(slots: Int32Array) -> int | None:
    first = int(slots[0])
    return first if np.array_equal(slots, np.arange(first, first + len(slots))) else None


def _rows_consecutive(plan: ForwardPlan) -> npt.NDArray[np.bool_]:
    """Rows whose keys, context and fed tokens together, are consecutive slots: bool [R]."""
    both = _are_consecutive(plan.context_slots, plan.context_offsets)
    both &= _are_consecutive(plan.slots, plan.row_offsets)
    has_context = plan.context_offsets[1:] > plan.context_offsets[:-1]
    last = plan.context_slots[plan.context_offsets[1:][has_context] - 1]
    both[has_context] &= last + 1 == plan.slots[plan.row_offsets[:-1][has_context]]
    return both


def _are_consecutive(slots: Int32Array, offsets: Int32Array) -> npt.NDArray[np.bool_]:
    if len(slots) == 0:
        return np.ones(len(offsets) - 1, dtype=np.bool_)
    breaks = np.cumsum(np.diff(slots, prepend=slots[0] - 1) != 1)  # [i]: breaks between neighbours up to i
    starts, stops = offsets[:-1], offsets[1:]
    is_empty = starts == stops
    unbroken = breaks[stops - 1] == breaks[np.where(is_empty, 0, starts)]
    consecutive: npt.NDArray[np.bool_] = is_empty | unbroken
    return consecutive


def _upload(array: Int32Array, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(array.astype(np.int64)).to(device)
