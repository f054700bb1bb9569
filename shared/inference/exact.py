"""float64 without float32 islands.

Stock models compute their norms and rotary angles in float32 whatever their dtype. In a float64 model that
rounds a difference of 1e-16, which the order of summation in another batch causes, up to 1e-7: enough for
another token. Here the same formulas run in float64 throughout, so that drawn tokens do not depend on what
else is in the batch.
"""

from __future__ import annotations

import torch
from torch import nn
from transformers import PreTrainedModel


class Float64RMSNorm(nn.Module):
    """The stock families' RMSNorm in the dtype of its input."""

    def __init__(self, weight: nn.Parameter, epsilon: float) -> None:
        super().__init__()
        self.weight = weight
        self.variance_epsilon = epsilon

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Normalises the last axis; same shape."""
        variance = hidden.pow(2).mean(-1, keepdim=True)
        return self.weight * (hidden * torch.rsqrt(variance + self.variance_epsilon))


class Float64RotaryEmbedding(nn.Module):
    """The stock families' rotary angles from the same frequencies, computed in float64."""

    def __init__(self, frequencies: torch.Tensor, scaling: float) -> None:
        super().__init__()
        self.inv_freq = nn.Buffer(frequencies.double(), persistent=False)
        self.attention_scaling = scaling

    def forward(self, x: torch.Tensor, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines for positions [1, T], each [1, T, head_dim]."""
        angles = position_ids[..., None].double() * self.inv_freq
        both = torch.cat((angles, angles), dim=-1)
        return (both.cos() * self.attention_scaling).to(x.dtype), (both.sin() * self.attention_scaling).to(x.dtype)


def remove_float32_islands(model: PreTrainedModel) -> None:
    """Replaces norms and rotary embeddings of a float64 model in place; does nothing a second time."""
    for path, module in list(model.named_modules()):
        kind = type(module).__name__
        if kind.startswith("Float64"):
            continue
        replacement: nn.Module | None = None
        if kind.endswith("RMSNorm"):
            replacement = Float64RMSNorm(module.weight, module.variance_epsilon)
        elif kind.endswith("RotaryEmbedding"):
            replacement = Float64RotaryEmbedding(module.inv_freq, module.attention_scaling)
        if replacement is not None:
            model.set_submodule(path, replacement)
