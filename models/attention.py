"""Causal attention for training on processors, in blocks of queries.

The fused kernel of torch keeps no bfloat16 matrix products on processors without AMX; plain
products over blocks of queries, which skip most of the masked half, are twice as fast there.
"""

from __future__ import annotations

import torch
from transformers import AttentionInterface, LlamaForCausalLM

NAME = "blocked_causal"
BLOCK = 128


def blocked_causal(
    module: torch.nn.Module,  # noqa: ARG001
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """[batch, length, heads, size] from [batch, heads, length, size]; no padding, no cache."""
    assert attention_mask is None
    length = query.shape[2]
    groups = query.shape[1] // key.shape[1]
    key = key.repeat_interleave(groups, dim=1)
    value = value.repeat_interleave(groups, dim=1)
    pieces = []
    for begin in range(0, length, BLOCK):
        end = min(begin + BLOCK, length)
        scores = query[:, :, begin:end] @ key[:, :, :end].transpose(-1, -2) * scaling
        hidden = torch.ones(end - begin, end, dtype=torch.bool, device=query.device).triu(begin + 1)
        weights = scores.masked_fill(hidden, float("-inf")).softmax(-1).to(value.dtype)
        pieces.append(weights @ value[:, :, :end])
    return torch.cat(pieces, dim=2).transpose(1, 2).contiguous(), None


def use_training_attention(model: LlamaForCausalLM) -> None:
    """Let a model on a processor train with blocked attention; others keep the fused kernel."""
    if model.device.type == "cpu":
        AttentionInterface.register(NAME, blocked_causal)
        model.set_attn_implementation(NAME)
