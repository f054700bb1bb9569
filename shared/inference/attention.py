"""Packed attention over the KV pool, in place of a stock model's own.

Registered with transformers under `NAME`. A forward pass carries `PackedRows` through the model as the
keyword argument `packed`; each layer writes the new keys and values into the pool and then attends row by
row. Rows whose slots are consecutive are read in place.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as functional
from transformers import AttentionInterface

from shared.inference.rows import AttentionRow, PackedRows

NAME = "adaserve_packed"


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
    _write(keys, packed, key)
    _write(values, packed, value)
    keys, values = keys.transpose(0, 1).unsqueeze(0), values.transpose(0, 1).unsqueeze(0)
    outputs = [
        _attend(
            query.narrow(2, row.first_query, row.num_queries), _read(keys, row), _read(values, row), row, scaling
        )
        for row in packed.rows(sliding_window)
    ]
    return (outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2)).transpose(1, 2), None


def _write(pool: torch.Tensor, packed: PackedRows, new: torch.Tensor) -> None:
    """Stores new [1, kv_heads, T, head_dim] at the pass' slots."""
    entries = new[0].transpose(0, 1)
    if packed.first_slot is not None:
        pool.narrow(0, packed.first_slot, len(entries)).copy_(entries)
    else:
        pool.index_copy_(0, packed.slots, entries)


def _read(pool: torch.Tensor, row: AttentionRow) -> torch.Tensor:
    """A row's part [1, kv_heads, keys, head_dim] of the pool; a view where its slots are consecutive."""
    if row.key_slots is None:
        return pool.narrow(2, row.first_key, row.num_keys)
    return pool.index_select(2, row.key_slots)


def _attend(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, row: AttentionRow, scaling: float | None
) -> torch.Tensor:
    """One row: query [1, heads, m, head_dim] -> the same shape."""
    if row.mask is not None and query.is_cuda:
        return attend_folded(query, keys, values, row.mask, scaling)
    return functional.scaled_dot_product_attention(
        query,
        keys,
        values,
        attn_mask=row.mask,
        is_causal=row.is_causal,
        scale=scaling,
        enable_gqa=query.shape[1] != keys.shape[1],
    )


def attend_folded(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, scaling: float | None
) -> torch.Tensor:
    """Masked attention as used on CUDA, where grouped queries with a mask would repeat keys and values.

    The query heads that share a key head become more queries of that one head: query [1, heads, m, head_dim],
    keys and values [1, kv_heads, n, head_dim], additive mask [m, n] -> [1, heads, m, head_dim].
    """
    groups = query.shape[1] // keys.shape[1]
    folded = query.reshape(1, keys.shape[1], groups * query.shape[2], query.shape[3])
    output = functional.scaled_dot_product_attention(
        folded, keys, values, attn_mask=mask.repeat(groups, 1), scale=scaling
    )
    return output.reshape(query.shape)


AttentionInterface.register(NAME, attend_packed)
