"""Attention of all rows of a pass in one call or a few, over the tiles of `shared.inference.tiles`.

Two ways. With a table of context slots, keys and values of each tile are gathered and attended to under one mask:
any device, any precision, any window. With ranges of slots, a kernel reads committed keys where they lie, a plain
product attends to the few uncommitted ones under their mask, and the parts are merged by log-sum-exp.

Everything is computed from one tensor of int32 without waiting for the device, so a pass can be recorded and
replayed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
import torch.nn.functional as functional

from shared.inference.tiles import WORD, Shape

GATHERED = 1 << 17  # keys copied at a time: of 8 heads of 128 in bfloat16, 0.5 GB with their values
MASKED = 1 << 25  # scores of a mask at a time: 128 MiB in float32


class InPlace(Protocol):
    """Attention without a mask over key ranges that lie anywhere in the pool."""

    def __call__(
        self,
        query: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        bounds: torch.Tensor,
        first_keys: torch.Tensor,
        num_keys: torch.Tensor,
        max_queries: int,
        max_keys: int,
        scaling: float,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """query [n, kv_heads, head_dim] over keys and values [slots, kv_heads, head_dim] -> the same, and its
        log-sum-exp [n, kv_heads].

        Range r has the queries bounds[r] to bounds[r+1] - 1; the first of its num_keys[r] keys is first_keys[r],
        which has one element more, not looked at. Nor is what comes of a range without keys.
        """


class TiledPass:
    """One pass' tiles on the device: ``columns`` are those of `Shape.columns`, ``visible`` unpacked (`unpacked`).

    ``in_place`` is used if the shape has ranges; ``max_keys`` bounds their lengths then.
    """

    def __init__(
        self,
        shape: Shape,
        columns: Mapping[str, torch.Tensor],
        dtype: torch.dtype,
        *,
        last_position: int,
        in_place: InPlace | None = None,
        max_keys: int = 0,
    ) -> None:
        self.last_position = last_position
        self.num_logits = shape.logits
        self.token_ids = columns["token_ids"]
        self.positions = columns["positions"].long()
        self.wanted: torch.Tensor | None = columns["wanted"].long()
        self._shape = shape
        self._columns = columns
        self._dtype = dtype
        self._in_place = in_place if shape.ranges else None
        self._max_keys = max_keys
        self._slots, self._place = columns["slots"].long(), columns["place"].long()
        self._queries = columns["queries"].long()  # [tiles, queries]
        self._query_positions = columns["positions"][self._queries]
        self._visible = columns["visible"]  # bool [tiles, queries, nodes]
        self._key_slots = torch.cat([columns["context"], columns["node_slots"]], dim=1)  # [tiles, keys + nodes]
        self._masks: dict[tuple[int | None, int], torch.Tensor] = {}

    def store(self, pool: torch.Tensor, new: torch.Tensor) -> None:
        """Writes new keys or values [T, kv_heads, head_dim] to the pass' slots of [slots, kv_heads, head_dim]."""
        pool.index_copy_(0, self._slots, new)

    def attend(
        self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, window: int | None, scaling: float
    ) -> torch.Tensor:
        """query [T, heads, head_dim] over a layer's keys and values -> [T, heads * head_dim]."""
        folded = self._folded(query, keys.shape[1])
        if self._in_place is None:
            mixed = self._gathered(folded, keys, values, window, scaling)
        else:
            mixed = self._merged(folded, keys, values, scaling, self._in_place)
        tiles, kv_heads, _, head_dim = mixed.shape
        lines = mixed.reshape(tiles, kv_heads, -1, self._shape.queries, head_dim).permute(0, 3, 1, 2, 4)
        return lines.reshape(tiles * self._shape.queries, -1)[self._place]

    def _folded(self, query: torch.Tensor, kv_heads: int) -> torch.Tensor:
        """The query heads that share a key head become more queries of it: [tiles, kv_heads, n, head_dim]."""
        tiles = query[self._queries]  # [tiles, queries, heads, head_dim]
        grouped = tiles.view(*tiles.shape[:2], kv_heads, -1, tiles.shape[3]).permute(0, 2, 3, 1, 4)
        return grouped.flatten(2, 3)

    # -- gathered ---------------------------------------------------------------------------------------------
    def _gathered(
        self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, window: int | None, scaling: float
    ) -> torch.Tensor:
        outputs = []
        for part in self._parts(query.shape[2]):
            slots = self._key_slots[part]
            mask = self._mask(window, query.shape[2] // self._shape.queries, part)
            outputs.append(
                functional.scaled_dot_product_attention(
                    query[part], _read(keys, slots), _read(values, slots), attn_mask=mask, scale=scaling
                )
            )
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)

    def _parts(self, queries: int) -> list[slice]:
        """Tiles that are attended to together: all, or as many as there is memory for; ``queries`` of each."""
        columns = self._key_slots.shape[1]
        step = max(1, min(GATHERED // columns, MASKED // (columns * queries)))
        return [slice(first, min(first + step, self._shape.tiles)) for first in range(0, self._shape.tiles, step)]

    def _mask(self, window: int | None, groups: int, part: slice) -> torch.Tensor:
        """Additive [tiles, 1, groups * queries, keys + nodes] of a part of the tiles.

        One of all of them is made once per pass for the layers that are alike; others anew by each layer.
        """
        if window is not None and self.last_position < window:
            window = None
        if (window, groups) in self._masks:
            return self._masks[window, groups]
        visible = self._seen(window, part)
        hidden = torch.zeros(visible.shape, dtype=self._dtype, device=visible.device)
        hidden.masked_fill_(~visible, float("-inf"))
        mask = hidden.repeat(1, groups, 1).unsqueeze(1)
        if len(mask) == self._shape.tiles:
            self._masks[window, groups] = mask
        return mask

    def _seen(self, window: int | None, part: slice) -> torch.Tensor:
        """Which keys each query of a part sees, bool [tiles, queries, keys + nodes]."""
        index = torch.arange(self._shape.keys, dtype=torch.int32, device=self._visible.device)
        is_there = index < self._columns["committed"][part, None]
        context, nodes = is_there[:, None].expand(-1, self._shape.queries, -1), self._visible[part]
        if window is not None:
            positions = self._query_positions[part, :, None]
            context = context & (positions - index < window)  # a committed key's index is its position
            nodes = nodes & (positions - self._columns["node_positions"][part, None] < window)
        return torch.cat([context, nodes], dim=2)

    # -- in place ---------------------------------------------------------------------------------------------
    def _merged(
        self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scaling: float, in_place: InPlace
    ) -> torch.Tensor:
        near, near_lse = self._nodes(query, keys, values, scaling)
        _, kv_heads, size, head_dim = query.shape
        num_keys, owners = self._columns["num_keys"], self._columns["range_tiles"]
        asked = query.index_select(0, owners).transpose(1, 2)  # [ranges, size, kv_heads, head_dim]
        bounds = torch.arange(len(owners) + 1, dtype=torch.int32, device=query.device) * size
        far, far_lse = in_place(
            asked.reshape(-1, kv_heads, head_dim),
            keys,
            values,
            bounds,
            self._columns["first_keys"],
            num_keys,
            size,
            self._max_keys,
            scaling,
        )
        is_empty = (num_keys == 0)[:, None, None, None]
        far = far.view(-1, size, kv_heads, head_dim).transpose(1, 2).masked_fill(is_empty, 0.0)
        far_lse = far_lse.reshape(-1, size, kv_heads, 1).transpose(1, 2).masked_fill(is_empty, float("-inf"))
        return merge(near, near_lse, far.to(near.dtype), far_lse.to(near.dtype), owners).to(query.dtype)

    def _nodes(
        self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scaling: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Attention to uncommitted keys, of which every query sees itself at least, in float32 or wider."""
        wide = torch.promote_types(query.dtype, torch.float32)
        slots = self._columns["node_slots"]
        scores = query.to(wide) @ _read(keys, slots).to(wide).transpose(2, 3) * scaling
        groups = query.shape[2] // self._shape.queries
        scores = scores.masked_fill(~self._visible.repeat(1, groups, 1)[:, None], float("-inf"))
        lse = torch.logsumexp(scores, dim=-1, keepdim=True)
        return torch.exp(scores - lse) @ _read(values, slots).to(wide), lse


def unpacked(shape: Shape, array: torch.Tensor) -> dict[str, torch.Tensor]:
    """Columns of what `Tiling.pack` filled, with ``visible`` as bool [tiles, queries, nodes]."""
    columns: dict[str, torch.Tensor] = shape.cut(array)
    bits = torch.arange(WORD, dtype=torch.int32, device=array.device)
    visible = (columns["visible"][..., None] >> bits & 1).bool()
    return {**columns, "visible": visible.flatten(2)}


def merge(
    near: torch.Tensor, near_lse: torch.Tensor, far: torch.Tensor, far_lse: torch.Tensor, owners: torch.Tensor
) -> torch.Tensor:
    """Attention over all keys from that over parts of them.

    near [n, ..., head_dim] with log-sum-exp [n, ..., 1] is over some of each line's keys, at least one; the others
    [m, ...] are over further ones of line owners[m], or over none, with zeros and a log-sum-exp of -inf.
    """
    index = owners.long().view(-1, *[1] * (far_lse.dim() - 1)).expand_as(far_lse)
    largest = near_lse.scatter_reduce(0, index, far_lse, "amax")
    share = torch.exp(far_lse - largest.index_select(0, owners))
    near_share = torch.exp(near_lse - largest)
    total = near_share.index_add(0, owners, share)
    return (near * near_share).index_add(0, owners, far * share) / total


def _read(pool: torch.Tensor, slots: torch.Tensor) -> torch.Tensor:
    """[n, kv_heads, keys, head_dim] of slots [n, keys]."""
    return pool.index_select(0, slots.flatten()).view(*slots.shape, *pool.shape[1:]).transpose(1, 2)
