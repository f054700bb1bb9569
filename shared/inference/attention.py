"""Attention of packed rows over the KV pool.

A layer writes the pass' new keys and values into the pool (`store`) and then attends row by row (`attend`). Rows
whose slots are consecutive are read in place.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as functional

from shared.inference.rows import AttentionRow, PackedRows


def store(pool: torch.Tensor, packed: PackedRows, new: torch.Tensor) -> None:
    """Writes new keys or values [T, kv_heads, head_dim] to the pass' slots of [slots, kv_heads, head_dim]."""
    if packed.first_slot is not None:
        pool.narrow(0, packed.first_slot, len(new)).copy_(new)
    else:
        pool.index_copy_(0, packed.slots, new)


def attend(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, rows: Sequence[AttentionRow], scaling: float
) -> torch.Tensor:
    """query [T, heads, head_dim] over a layer's keys and values -> [T, heads * head_dim]."""
    query = query.transpose(0, 1).unsqueeze(0)  # [1, heads, T, head_dim]
    keys, values = keys.transpose(0, 1).unsqueeze(0), values.transpose(0, 1).unsqueeze(0)
    outputs = [
        _attend(
            query.narrow(2, row.first_query, row.num_queries), _read(keys, row), _read(values, row), row, scaling
        )
        for row in rows
    ]
    joined = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2)
    return joined.squeeze(0).transpose(0, 1).flatten(1)


def _read(pool: torch.Tensor, row: AttentionRow) -> torch.Tensor:
    """A row's part [1, kv_heads, keys, head_dim] of the pool; a view where its slots are consecutive."""
    if row.key_slots is None:
        return pool.narrow(2, row.first_key, row.num_keys)
    return pool.index_select(2, row.key_slots)


def _attend(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, row: AttentionRow, scaling: float
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
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, scaling: float
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
