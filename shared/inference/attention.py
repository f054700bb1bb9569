"""Attention row by row, for CPUs: rows whose slots are consecutive are read in place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as functional


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
    return functional.scaled_dot_product_attention(
        query,
        keys,
        values,
        attn_mask=row.mask,
        is_causal=row.is_causal,
        scale=scaling,
        enable_gqa=query.shape[1] != keys.shape[1],
    )
