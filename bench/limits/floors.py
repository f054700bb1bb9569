"""What the hardware can do, measured by the plainest code that does it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

LARGE = 256 << 20  # bytes, beyond every cache
SIDE = 1024  # of the product that shows what the cores can compute
ROUNDS = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Floors:
    """Best of several rounds, with this process' threads: a limit is what was reached, not the usual."""

    read_gb_s: float
    copy_gb_s: float  # bytes copied, each of which is read and written
    gflop_s: float  # float32, packed oneDNN product

    def read_ms(self, num_bytes: float) -> float:
        """Time to read so many bytes from memory."""
        return num_bytes / self.read_gb_s * 1e-6

    def copy_us(self, num_bytes: float) -> float:
        """Time to copy so many bytes in memory."""
        return num_bytes / self.copy_gb_s * 1e-3

    def forward_ms(self, weight_bytes: float, flops: float) -> float:
        """What a forward pass cannot be below: its weights read once, or its products, whichever takes longer."""
        return max(self.read_ms(weight_bytes), flops / self.gflop_s * 1e-6)


def measure_floors(clock: Callable[[], float] = time.perf_counter) -> Floors:
    """About a second."""
    source = torch.ones(LARGE // 4)
    read_s = _best(lambda: torch.dot(source, source), clock)
    array, destination = source.numpy(), np.empty(LARGE // 4, np.float32)
    copy_s = _best(lambda: np.copyto(destination, array), clock)
    return Floors(
        read_gb_s=LARGE / read_s / 1e9,
        copy_gb_s=LARGE / copy_s / 1e9,
        gflop_s=2 * SIDE**3 / _best(_product(), clock) / 1e9,
    )


def _product() -> Callable[[], object]:
    rows, weight = torch.randn(SIDE, SIDE), torch.randn(SIDE, SIDE)
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return lambda: torch.mm(rows, weight)
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, SIDE)
    return lambda: torch.ops.mkldnn._linear_pointwise.default(rows, packed, None, "none", [], "")


@torch.inference_mode()
def _best(call: Callable[[], object], clock: Callable[[], float]) -> float:
    times = []
    for _ in range(ROUNDS):
        start = clock()
        call()
        times.append(clock() - start)
    return min(times)
