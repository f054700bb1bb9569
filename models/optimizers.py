"""Muon for the hidden matrices, AdamW for embeddings and norms, one wall-clock schedule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

WARMUP_STEPS = 40
MUON_LR = 0.02
ADAM_LR = 0.004


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningRates:
    """Peak learning rates."""

    muon: float = MUON_LR
    adam: float = ADAM_LR


def build_optimizers(model: torch.nn.Module, rates: LearningRates) -> tuple[torch.optim.Optimizer, ...]:
    """One optimizer per kind of parameter; each group remembers its peak as `peak_lr`."""
    matrices: list[torch.nn.Parameter] = []
    others: list[torch.nn.Parameter] = []
    for name, parameter in model.named_parameters():
        is_hidden = parameter.ndim == 2 and "embed" not in name and "lm_head" not in name
        (matrices if is_hidden else others).append(parameter)
    optimizers: tuple[torch.optim.Optimizer, ...] = (
        torch.optim.Muon(matrices, lr=rates.muon, weight_decay=0.01, momentum=0.95),
        torch.optim.AdamW(others, lr=rates.adam, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
    )
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


def lr_factor(step: int, progress: float) -> float:
    """Share of the peak rate: warmup by steps, linear decay to zero by wall-clock `progress`."""
    return min(1.0, (step + 1) / WARMUP_STEPS) * max(0.0, 1.0 - progress)


def set_progress(optimizers: Sequence[torch.optim.Optimizer], *, step: int, progress: float) -> None:
    """Set every group's rate for this point of the schedule."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * lr_factor(step, progress)
