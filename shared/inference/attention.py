"""Packed attention over the KV pool, in place of a stock model's own.

Registered with transformers under `NAME`. A forward pass carries `PackedRows`, prepared once from the plan
and handed through the model as the keyword argument `packed`; each layer writes the new keys and values
into the pool and then attends row by row. Rows whose slots are consecutive are read in place. Tensors go to
the device only while the rows are prepared, so a pass on CUDA does not wait for the device in between.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as functional
from transformers import AttentionInterface

from shared.inference.kv import KVCache
from shared.inference.plan import ForwardPlan, Int32Array

NAME = "adaserve_packed"


@dataclass(frozen=True, slots=True)
class _Row:
    queries: slice  # of the T fed tokens
    keys: slice | torch.Tensor  # pool slots: consecutive, or listed
    mask: torch.Tensor | None  # additive [queries, keys]
    is_causal: bool  # queries and keys are the same tokens in order; then there is no mask


class PackedRows:
    """One forward pass' rows, ready for every layer."""

    def __init__(self, plan: ForwardPlan, cache: KVCache) -> None:
        device = cache.data.device
        self.cache = cache
        self._plan = plan
        self._dtype = cache.data.dtype
        self._slots = _upload(plan.slots, device)
        self._context_slots = _upload(plan.context_slots, device)
        self._masks = torch.from_numpy(plan.masks).to(device)
        consecutive = _rows_consecutive(plan)
        self._full = [self._row(index, bool(consecutive[index])) for index in range(plan.num_rows)]
        self._windowed: dict[int, list[_Row]] = {}
        first, tokens = int(plan.slots[0]), plan.num_tokens
        is_one_slice = bool((plan.slots == np.arange(first, first + tokens)).all())
        self.targets: slice | torch.Tensor = slice(first, first + tokens) if is_one_slice else self._slots

    def rows(self, window: int | None) -> list[_Row]:
        """The rows for a layer that sees everything, or only keys fewer than `window` positions back."""
        if window is None:
            return self._full
        if window not in self._windowed:
            self._windowed[window] = [self._narrowed(index, row, window) for index, row in enumerate(self._full)]
        return self._windowed[window]

    def _row(self, index: int, is_consecutive: bool) -> _Row:
        queries, context = _ranges(self._plan, index)
        num_queries, num_context = queries.stop - queries.start, context.stop - context.start
        num_keys = num_context + num_queries
        keys: slice | torch.Tensor
        if is_consecutive:
            source = self._plan.context_slots[context] if num_context else self._plan.slots[queries]
            keys = slice(int(source[0]), int(source[0]) + num_keys)
        else:
            keys = torch.cat([self._context_slots[context], self._slots[queries]])
        is_tree = self._plan.mask_offsets[index] < self._plan.mask_offsets[index + 1]
        needs_mask = is_tree or (num_queries > 1 and num_context > 0)
        mask = self._additive(self._visible(index)) if needs_mask else None
        return _Row(queries, keys, mask, is_causal=not needs_mask and num_queries > 1)

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

    def _narrowed(self, index: int, row: _Row, window: int) -> _Row:
        queries, context = _ranges(self._plan, index)
        positions = self._plan.positions[queries]
        if positions.max() < window:
            return row
        key_positions = np.concatenate([self._plan.context_positions[context], positions])
        is_near = torch.from_numpy(positions[:, None] - key_positions < window).to(self._masks.device)
        return replace(row, mask=self._additive(self._visible(index) & is_near), is_causal=False)

    def _additive(self, visible: torch.Tensor) -> torch.Tensor:
        # Additive once per pass: a boolean mask would be converted again by every layer.
        return torch.zeros_like(visible, dtype=self._dtype).masked_fill_(~visible, float("-inf"))


def attend_packed(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,  # noqa: ARG001  # transformers' signature
    *,
    packed: PackedRows,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of one layer over packed rows; transformers' attention function signature.

    query [1, heads, T, head_dim], key and value [1, kv_heads, T, head_dim], already rotated; returns
    [1, T, heads, head_dim]. `attention_mask` is always None: no mask is made for an unknown implementation.
    """
    layer = module.layer_idx
    assert isinstance(layer, int)
    keys, values = packed.cache.layer(layer)  # [slots, kv_heads, head_dim]
    _write(keys, packed.targets, key[0].transpose(0, 1))
    _write(values, packed.targets, value[0].transpose(0, 1))
    rows = packed.rows(sliding_window)
    outputs = [_attend(query[:, :, row.queries], keys, values, row, scaling) for row in rows]
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1), None


def _write(pool: torch.Tensor, targets: slice | torch.Tensor, new: torch.Tensor) -> None:
    if isinstance(targets, slice):
        pool[targets] = new
    else:
        pool.index_copy_(0, targets, new)


def _read(pool: torch.Tensor, slots: slice | torch.Tensor) -> torch.Tensor:
    """[1, kv_heads, keys, head_dim]; a view of the pool where slots are consecutive."""
    entries = pool[slots] if isinstance(slots, slice) else pool.index_select(0, slots)
    return entries.transpose(0, 1)[None]


def _attend(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, row: _Row, scaling: float | None
) -> torch.Tensor:
    """One row: query [1, heads, m, head_dim] -> [1, m, heads, head_dim]."""
    row_keys, row_values = _read(keys, row.keys), _read(values, row.keys)
    if row.mask is not None and query.is_cuda:
        return _attend_folded(query, row_keys, row_values, row.mask, scaling)
    output = functional.scaled_dot_product_attention(
        query,
        row_keys,
        row_values,
        attn_mask=row.mask,
        is_causal=row.is_causal,
        scale=scaling,
        enable_gqa=query.shape[1] != row_keys.shape[1],
    )
    return output.transpose(1, 2)


def _attend_folded(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, scaling: float | None
) -> torch.Tensor:
    """Masked attention on CUDA, where grouped queries with a mask would repeat keys and values in memory.

    The query heads that share a key head become more queries of that one head.
    """
    _, heads, num_queries, head_dim = query.shape
    groups = heads // keys.shape[1]
    output = functional.scaled_dot_product_attention(
        query.reshape(1, heads // groups, groups * num_queries, head_dim),
        keys,
        values,
        attn_mask=mask.repeat(groups, 1),
        scale=scaling,
    )
    return output.reshape(1, heads, num_queries, head_dim).transpose(1, 2)


def _ranges(plan: ForwardPlan, index: int) -> tuple[slice, slice]:
    """The row's fed tokens, and its keys in the pool."""
    return (
        slice(int(plan.row_offsets[index]), int(plan.row_offsets[index + 1])),
        slice(int(plan.context_offsets[index]), int(plan.context_offsets[index + 1])),
    )


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


AttentionInterface.register(NAME, attend_packed)
