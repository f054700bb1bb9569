"""Flash attention over contexts where they lie, as PyTorch ships it."""

from __future__ import annotations

from inspect import signature

import torch

from shared.inference.tiled import InPlace

_PRECISIONS = (torch.bfloat16, torch.float16)
_CAPABILITY = (8, 0)  # Ampere
_LARGEST_HEAD = 256
_HEAD_STEP = 8


def flash_in_place(dtype: torch.dtype, device: torch.device, head_dim: int) -> InPlace | None:
    """The kernel, where there is one for this device, precision and head; else None."""
    if device.type != "cuda" or dtype not in _PRECISIONS or head_dim % _HEAD_STEP or head_dim > _LARGEST_HEAD:
        return None
    return flash_kernel() if torch.cuda.get_device_capability(device) >= _CAPABILITY else None


def flash_kernel() -> InPlace | None:
    """None for a PyTorch that cannot be told where ranges end."""
    try:
        from torch.nn.attention.varlen import AuxRequest, varlen_attn
    except ImportError:
        return None
    if "seqused_k" not in signature(varlen_attn).parameters:
        return None

    def attend(
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
        # Offsets say where a range begins, and `seqused_k` how long it is: so they need not lie side by side.
        output, lse = varlen_attn(
            query,
            keys,
            values,
            bounds,
            first_keys,
            max_queries,
            max_keys,
            return_aux=AuxRequest(lse=True),
            scale=scaling,
            seqused_k=num_keys,
        )
        return output, lse.transpose(0, 1)  # the kernel's is [heads, n]

    return attend
