"""From the host to the device without waiting for either."""

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
