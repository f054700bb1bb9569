"""A forward plan prepared for attention row by row: key ranges and masks, once per pass for all layers."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

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
        self._full = self._all_rows()
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

    def _all_rows(self) -> list[AttentionRow]:
        plan = self._plan
        consecutive, masks = _rows_consecutive(plan), _tree_masks(plan, self._dtype, self.slots.device)
        is_fed_first = plan.context_offsets[1:] == plan.context_offsets[:-1]  # where there is no context
        firsts = plan.slots[plan.row_offsets[:-1]]
        firsts[~is_fed_first] = plan.context_slots[plan.context_offsets[:-1][~is_fed_first]]
        queries, contexts = pairwise(plan.row_offsets.tolist()), pairwise(plan.context_offsets.tolist())
        return [
            self._row(query, context, first, key_slots, masks.get(index))
            for index, (query, context, first, key_slots) in enumerate(
                zip(queries, contexts, firsts.tolist(), self._key_slots(consecutive), strict=True)
            )
        ]

    def _key_slots(self, consecutive: npt.NDArray[np.bool_]) -> list[torch.Tensor | None]:
        """Of each row whose keys are not consecutive their slots."""
        plan = self._plan
        key_slots: list[torch.Tensor | None] = [None] * plan.num_rows
        scattered = np.flatnonzero(~consecutive).tolist()
        if scattered:
            context_slots = _upload(plan.context_slots, self.slots.device)
            for index in scattered:
                queries, context = _ranges(plan, index)
                key_slots[index] = torch.cat([context_slots[context], self.slots[queries]])
        return key_slots

    def _row(
        self,
        queries: tuple[int, int],
        context: tuple[int, int],
        first_key: int,
        key_slots: torch.Tensor | None,
        mask: torch.Tensor | None,
    ) -> AttentionRow:
        num_queries, num_context = queries[1] - queries[0], context[1] - context[0]
        if mask is None and num_queries > 1 and num_context > 0:
            mask = self._causal(num_queries, num_context)
        return AttentionRow(
            first_query=queries[0],
            num_queries=num_queries,
            first_key=first_key,
            num_keys=num_context + num_queries,
            key_slots=key_slots,
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
    committed = plan.committed[trees].astype(np.int64)
    fed = plan.row_offsets[trees + 1] - plan.row_offsets[trees]
    keys = plan.context_offsets[trees + 1] - plan.context_offsets[trees] + fed
    # A query's line is as the plan's, behind as many committed keys as its row has.
    shifts = committed.repeat(fed).cumsum().repeat((keys - committed).repeat(fed))
    hidden = np.flatnonzero(~plan.masks)
    places = hidden + shifts[hidden]
    sizes = fed.astype(np.int64) * keys
    masks = torch.zeros(int(sizes.sum()), dtype=dtype, device=device)
    masks.index_fill_(0, torch.from_numpy(places).to(masks.device), float("-inf"))
    parts, shapes = torch.split_with_sizes(masks, sizes.tolist()), zip(fed.tolist(), keys.tolist(), strict=True)
    return {row: part.view(shape) for row, part, shape in zip(trees.tolist(), parts, shapes, strict=True)}


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
    breaks = 1 + np.flatnonzero(slots[1:] - slots[:-1] != 1)  # slots that do not follow their neighbour
    inside = breaks.searchsorted(offsets[1:], side="left") - breaks.searchsorted(offsets[:-1], side="right")
    consecutive: npt.NDArray[np.bool_] = inside <= 0
    return consecutive


def _upload(array: Int32Array, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(array.astype(np.int64)).to(device)
