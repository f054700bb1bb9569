"""From the host to the device without waiting for either, and back."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
import torch


def upload(array: npt.NDArray[Any], device: torch.device) -> torch.Tensor:
    """The array on the device; on a CPU the same memory.

    A copy out of pageable memory would wait for all work before it. PyTorch keeps pinned memory and does not hand
    it out again before the copy is done.
    """
    host = torch.from_numpy(array)
    return host if device.type == "cpu" else host.pin_memory().to(device, non_blocking=True)


def upload_into(target: torch.Tensor, array: npt.NDArray[Any]) -> None:
    """The same into a tensor that stays where it is."""
    host = torch.from_numpy(array)
    target.copy_(host if target.device.type == "cpu" else host.pin_memory(), non_blocking=True)


def download(tensor: torch.Tensor) -> npt.NDArray[Any]:
    """The tensor on the host, once the device has computed it; on a CPU the same memory.

    Into pinned memory, which the device writes by itself: logits are tens of megabytes, and by way of pageable
    memory they would take several times as long. That memory is the caller's for as long as the array lives.
    """
    if tensor.device.type == "cpu":
        return tensor.numpy()
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    host.copy_(tensor, non_blocking=True)
    torch.cuda.current_stream(tensor.device).synchronize()
    return host.numpy()
