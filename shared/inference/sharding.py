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
from torch.nn import functional
from transformers import PretrainedConfig

from shared.errors import ModelError
from shared.inference.kv import head_dim_of, kv_heads_of

# Families whose division is tested against the undivided model; their decoder layers have the same module names.
DIVIDED_FAMILIES = ("llama", "mistral", "qwen2", "qwen3")

_COLUMNS = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj")
_ROWS = ("o_proj", "down_proj")


@dataclass(frozen=True, slots=True)
class Rank:
    """One of ``count`` processes that run a model together, and what it sums with the others."""

    index: int
    count: int
    group: dist.ProcessGroup


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


def divide_modules(model: nn.Module, rank: Rank) -> None:
    """Replaces the layers whose outputs the ranks put together; weights come later (`shard_loading`)."""
    for path, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and path.rpartition(".")[2] in _ROWS:
            model.set_submodule(path, SummedLinear(module, rank))
    head = model.get_submodule("lm_head")
    assert isinstance(head, nn.Linear)
    model.set_submodule("lm_head", GatheredHead(head, rank))


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


def ids_per_rank(vocab_size: int, count: int) -> int:
    """Token ids of a rank's output layer; the last ranks' may reach beyond the vocabulary."""
    return -(-vocab_size // count)


def _share(size: int, rank: Rank) -> slice:
    part = size // rank.count
    return slice(rank.index * part, (rank.index + 1) * part)


class SummedLinear(nn.Module):
    """A linear layer over this rank's part of the inputs, summed over the ranks; the bias is added once."""

    def __init__(self, linear: nn.Linear, rank: Rank) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias  # [out, in / ranks], [out] or None
        self._group = rank.group

    def forward(self, part: torch.Tensor) -> torch.Tensor:
        """[.., in / ranks] -> [.., out], the same on every rank."""
        total = functional.linear(part, self.weight)
        dist.all_reduce(total, group=self._group)
        return total if self.bias is None else total + self.bias


class GatheredHead(nn.Module):
    """The output layer for this rank's range of token ids; its weight [ids_per_rank, hidden] ends in zeros."""

    def __init__(self, linear: nn.Linear, rank: Rank) -> None:
        super().__init__()
        shape = (ids_per_rank(linear.out_features, rank.count), linear.in_features)
        self.weight = nn.Parameter(linear.weight.new_empty(shape), requires_grad=False)
        self._rank = rank

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """[1, L, hidden] -> on rank 0 the logits [1, L, ids of all ranks]; elsewhere those of the own ids."""
        part = functional.linear(hidden, self.weight)
        if part.numel() == 0:  # a pass that only feeds a prompt
            return part.new_empty((*part.shape[:-1], part.shape[-1] * self._rank.count))
        parts = [torch.empty_like(part) for _ in range(self._rank.count)] if self._rank.index == 0 else None
        dist.gather(part, parts, group_dst=0, group=self._rank.group)
        return part if parts is None else torch.cat(parts, dim=-1)
