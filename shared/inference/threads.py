"""How many threads this process computes with."""

from __future__ import annotations

import torch
from threadpoolctl import threadpool_limits


def use_threads(count: int) -> None:
    """``count`` for PyTorch, one for numpy's BLAS: its threads would meet at each of many small strips."""
    torch.set_num_threads(count)
    threadpool_limits(1, user_api="blas")
