"""What the sections of one run share: the device, what it can do, and one random model on it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from bench.gpu.size import Size
from bench.limits.floors import Floors
from bench.limits.placement import described
from bench.limits.timing import in_rounds
from shared.inference.blocks import BlockPool
from shared.inference.buckets import WIDTHS, Load
from shared.inference.runner import ModelRunner

DTYPE = torch.bfloat16
NUM_REQUESTS = 16
BLOCK = 16
POSITIONS = 8192


@dataclass(frozen=True, slots=True)
class Model:
    """A random model with its KV; every token is multiplied by ``multiplied`` parameters.

    Usual passes are recorded, which took ``recorded_s``.
    """

    runner: ModelRunner
    pool: BlockPool
    multiplied: int
    recorded_s: float

    @property
    def weight_bytes(self) -> float:
        """Read by every forward pass."""
        return float(DTYPE.itemsize * self.multiplied)

    def flops(self, num_tokens: int) -> float:
        """Of the products with the weights; attention is not counted."""
        return 2.0 * self.multiplied * num_tokens


class Run:
    """One device and one size."""

    def __init__(self, device: torch.device, size: Size) -> None:
        self.device = device
        self.size = size

    @cached_property
    def floors(self) -> Floors:
        """Of the device, best of all rounds: bytes moved by a copy, read and written, and products in DTYPE."""
        source = torch.ones(self.size.copied_bytes, dtype=torch.uint8, device=self.device)
        destination = torch.empty_like(source)
        side = self.size.product_side
        left, right = torch.randn(2, side, side, device=self.device, dtype=DTYPE).unbind()
        calls = {"copy": partial(destination.copy_, source), "product": partial(torch.mm, left, right)}
        times = self.timed({name: self.waiting(call) for name, call in calls.items()})
        copied_gb_s = self.size.copied_bytes / min(times["copy"]) / 1e9
        return Floors(
            read_gb_s=2 * copied_gb_s,
            copy_gb_s=copied_gb_s,
            gflop_s=2 * side**3 / min(times["product"]) / 1e9,
        )

    def release(self) -> None:
        """Give back what nothing here uses: other processes are about to use the device."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    @cached_property
    def model(self) -> Model:
        """In Llama's shape, built by its configuration on the device: nothing is read from a disk."""
        config = LlamaConfig(
            **self.size.model,
            max_position_embeddings=POSITIONS,
            tie_word_embeddings=True,
        )
        torch.manual_seed(0)
        with torch.device(self.device):
            model = AutoModelForCausalLM.from_config(config, dtype=DTYPE, attn_implementation="sdpa").eval()
        multiplied = sum(parameter.numel() for parameter in model.parameters())
        tokens = NUM_REQUESTS * (self.size.context + BLOCK) + max(self.size.verified)
        pool = BlockPool(2 * (tokens // BLOCK + NUM_REQUESTS))  # the drafter's rows stay where they are
        runner = ModelRunner(model, pool.num_blocks * BLOCK)
        start = time.perf_counter()
        runner.record(Load(rows=NUM_REQUESTS, chunk=0, context=POSITIONS, widths=WIDTHS))
        return Model(runner, pool, multiplied, time.perf_counter() - start)

    @property
    def placement(self) -> str:
        """The device, and where this process runs."""
        return f"{name_of(self.device)}; {described()}"

    def waiting(self, call: Callable[[], object]) -> Callable[[], None]:
        """The call, and then until the device has done what it was told."""

        def done() -> None:
            call()
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)

        return done

    def timed(self, calls: Mapping[str, Callable[[], object]]) -> dict[str, list[float]]:
        """Seconds of each, in rounds."""
        return in_rounds(calls, self.size.rounds, warm=5)


def name_of(device: torch.device) -> str:
    """As its maker calls it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def elapsed(start: float) -> str:
    """Since a reading of the monotonic clock."""
    return f"{time.monotonic() - start:.0f} s"
