"""A forward plan prepared for attention row by row: key ranges and masks, once per pass for all layers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from shared.inference.attention import AttentionRow, attend
from shared.inference.plan import ForwardPlan, Int32Array


class PackedRows:
    """One forward pass' rows and the slots its new KV goes to. The plan feeds at least one token."""

    def __init__(self, plan: ForwardPlan, dtype: torch.dtype, device: torch.device) -> None:
        self._dtype = dtype
        self.slots = _upload(plan.slots, device)  # [T]
        self.first_slot = _first_if_consecutive(plan.slots)
        self.last_position = int(plan.positions.max())
        self.num_logits = len(plan.logit_rows)
        is_all = np.array_equal(plan.logit_rows, np.arange(plan.num_tokens))
        self.wanted = None if is_all else _upload(plan.logit_rows, device)  # [L]; None: all T in order
        self._plan = plan
        self._context_slots = _upload(plan.context_slots, device)
        self._tree_masks = _tree_masks(plan, dtype, device)
        consecutive = _rows_consecutive(plan)
        self._full = [self._row(index, bool(consecutive[index])) for index in range(plan.num_rows)]
        self._windowed: dict[int, list[AttentionRow]] = {}

    def store(self, pool: torch.Tensor, new: torch.Tensor) -> None:
        """Writes new keys or values [T, kv_heads, head_dim] to the pass' slots of [slots, kv_heads, head_dim]."""
        if self.first_slot is not None:
            pool.narrow(0, self.first_slot, len(new)).copy_(new)
        else:
            pool.index_copy_(0, self.slots, new)

    def attend(
        self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, window: int | None, scaling: float
    ) -> torch.Tensor:
        """query [T, heads, head_dim] over a layer's keys and values -> [T, heads * head_dim]."""
        return attend(query, keys, values, self.rows(window), scaling)

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
        first = plan.context_slots[context.start] if num_context else plan.slots[queries.start]
        mask = self._tree_masks.get(index)
        if mask is None and num_queries > 1 and num_context > 0:
            mask = self._causal(num_queries, num_context)
        return AttentionRow(
            first_query=queries.start,
            num_queries=num_queries,
            first_key=int(first),
            num_keys=num_context + num_queries,
            key_slots=None if is_consecutive else torch.cat([self._context_slots[context], self.slots[queries]]),
            mask=mask,
            is_causal=mask is None and num_queries > 1,
        )

    def _causal(self, num_queries: int, num_context: int) -> torch.Tensor:
        size = (num_queries, num_context + num_queries)
        hidden = torch.full(size, float("-inf"), dtype=self._dtype, device=self.slots.device)
        return hidden.triu_(num_context + 1)

    def _narrowed(self, index: int, row: AttentionRow, window: int) -> AttentionRow:
        queries, context = _ranges(self._plan, index)
        positions = self._plan.positions[queries]
        if positions.max() < window:
            return row
        key_positions = np.concatenate([self._plan.context_positions[context], positions])
        is_far = torch.from_numpy(positions[:, None] - key_positions >= window).to(self.slots.device)
        mask = row.mask if row.mask is not None else self._causal(row.num_queries, row.num_keys - row.num_queries)
        return replace(row, mask=mask.masked_fill(is_far, float("-inf")), is_causal=False)


def _tree_masks(plan: ForwardPlan, dtype: torch.dtype, device: torch.device) -> dict[int, torch.Tensor]:
    """Additive masks [queries, keys] of the rows that are trees: views of one array, filled in one go.

    Additive, because a boolean mask would be converted again by every layer.
    """
    if len(plan.masks) == 0:
        return {}
    trees = np.flatnonzero(plan.mask_offsets[1:] > plan.mask_offsets[:-1])
    fed = np.diff(plan.row_offsets).astype(np.int64)
    keys = np.diff(plan.context_offsets) + fed
    starts = np.zeros(len(trees) + 1, dtype=np.int64)
    np.cumsum((fed * keys)[trees], out=starts[1:])

    hidden = np.flatnonzero(~plan.masks)
    tree = np.searchsorted(plan.mask_offsets[trees + 1], hidden, side="right")
    row = trees[tree]
    query, column = np.divmod(hidden - plan.mask_offsets[row], (keys - plan.committed)[row])
    places = starts[tree] + query * keys[row] + plan.committed[row] + column
    masks = torch.zeros(int(starts[-1]), dtype=dtype, device=device)
    masks.index_fill_(0, torch.from_numpy(places).to(masks.device), float("-inf"))
    return {
        int(row): masks[start:stop].view(int(fed[row]), int(keys[row]))
        for row, start, stop in zip(trees, starts[:-1].tolist(), starts[1:].tolist(), strict=True)
    }


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
