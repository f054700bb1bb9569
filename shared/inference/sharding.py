"""How a model is divided among ranks, as in Megatron-LM (arXiv 1909.08053): heads and MLP columns, then one sum.

Each rank computes a range of the attention heads, with their part of the KV, and of the MLP's columns; what
attention and MLP add to the residual is summed over the ranks. Embedding and norms are on every rank. The output
layer is divided by token ids, and rank 0 alone gets all logits.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from transformers import PretrainedConfig

from shared.errors import ModelError
from shared.inference.kv import head_dim_of, kv_heads_of

# Families whose division is tested against the undivided model; their decoder layers have the same module names.
DIVIDED_FAMILIES = ("llama", "mistral", "qwen2", "qwen3")

_COLUMNS = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj")
_ROWS = ("o_proj", "down_proj")


@dataclass(frozen=True, slots=True)
class Rank:
    """One of ``count`` processes that run a model together; ``group`` is what they compute together in."""

    index: int
    count: int
    group: dist.ProcessGroup

    def sum(self, part: torch.Tensor) -> torch.Tensor:
        """The sum of every rank's ``part``, on every rank; it replaces this one's."""
        dist.all_reduce(part, group=self.group)
        return part

    def least(self, value: int, device: torch.device) -> int:
        """The least of all ranks' values; the group computes on ``device``."""
        least = torch.tensor(value, device=device)
        dist.all_reduce(least, op=dist.ReduceOp.MIN, group=self.group)
        return int(least)

    def gather(self, part: torch.Tensor) -> torch.Tensor:
        """On rank 0 the parts [n, m] of all ranks side by side, [n, count * m]; elsewhere the own one."""
        parts = [torch.empty_like(part) for _ in range(self.count)] if self.index == 0 else None
        dist.gather(part, parts, group_dst=0, group=self.group)
        return part if parts is None else torch.cat(parts, dim=-1)


def check_divisible(directory: Path, config: PretrainedConfig, count: int) -> None:
    """Raises ModelError naming the field of the configuration that ``count`` ranks cannot share."""
    if config.model_type not in DIVIDED_FAMILIES:
        raise ModelError(
            f"{directory}: model_type {config.model_type!r} cannot be divided among ranks; "
            f"those that can: {', '.join(DIVIDED_FAMILIES)}"
        )
    sizes = {
        "num_key_value_heads": kv_heads_of(config),
        "num_attention_heads": config.num_attention_heads,
        "intermediate_size": config.intermediate_size,
    }
    for field, size in sizes.items():
        if size % count:
            raise ModelError(f"{directory}: {field}={size} does not divide by {count} ranks")


def divided(config: PretrainedConfig, count: int) -> PretrainedConfig:
    """The configuration of one rank's part: fewer heads and MLP columns, everything else as it is."""
    part = copy.deepcopy(config)
    part.head_dim = head_dim_of(config)
    part.num_key_value_heads = kv_heads_of(config) // count
    part.num_attention_heads = config.num_attention_heads // count
    part.intermediate_size = config.intermediate_size // count
    return part


def part_of(name: str, shape: Sequence[int], rank: Rank) -> tuple[slice, ...]:
    """What of a stored tensor, by its name and full shape, this rank reads."""
    module = name.split(".")[-2]
    if module in _COLUMNS:
        return (_share(shape[0], rank),)
    if module in _ROWS and len(shape) > 1:
        return slice(None), _share(shape[1], rank)
    if module == "lm_head":
        size = ids_per_rank(shape[0], rank.count)
        return (slice(min(rank.index * size, shape[0]), min((rank.index + 1) * size, shape[0])),)
    return (slice(None),)


def drop_shared_biases(model: nn.Module, rank: Rank) -> None:
    """Of what is summed over the ranks: one of them adds the bias."""
    for path, module in model.named_modules():
        if rank.index > 0 and isinstance(module, nn.Linear) and path.rpartition(".")[2] in _ROWS:
            module.register_parameter("bias", None)


def ids_per_rank(vocab_size: int, count: int) -> int:
    """Token ids of a rank's output layer; the last ranks' may reach beyond the vocabulary."""
    return -(-vocab_size // count)


def _share(size: int, rank: Rank) -> slice:
    part = size // rank.count
    return slice(rank.index * part, (rank.index + 1) * part)
