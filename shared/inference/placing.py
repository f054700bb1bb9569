"""A loaded model with its KV: as much as is set, or as the GPU has left."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from transformers import PreTrainedModel

from shared.errors import ModelError
from shared.gpu_memory import SHARE_VARIABLE, GpuMemory, kv_memory
from shared.inference.blocks import BlockPool
from shared.inference.buckets import Load
from shared.inference.kv import slots_for_memory
from shared.inference.loading import first_line
from shared.inference.plan import ForwardPlan, build_plan, chain_row
from shared.inference.runner import ModelRunner
from shared.inference.sharding import Rank
from shared.settings import EngineSettings

logger = logging.getLogger(__name__)

BLOCK = 16
CPU_KV_MB = 256
ROW_TOKENS = 128  # of each row in the measured pass
# What attention takes besides grows with the keys that it copies, up to a bound that rows with so long contexts
# reach; where it reads in place, with the pieces that a context lies in. All rows' contexts are the same slots.
ROW_CONTEXT, PIECE = 16_384, 4096
_PASSES = 2  # what a first one allocates for good is not counted in the second

Call = Callable[[], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What a runner is for. ``run`` is its largest call: a pass of up to ``tokens``, all with logits.

    ``load`` is what it is usually asked for. ``build`` makes it of a model and a number of slots. ``rank``: others
    run the same passes with the other parts.
    """

    tokens: int
    load: Load
    run: Callable[[ModelRunner, ForwardPlan], object]
    build: Callable[[PreTrainedModel, int], ModelRunner] = ModelRunner
    rank: Rank | None = None


def place(model: PreTrainedModel, settings: EngineSettings, use: Use) -> tuple[ModelRunner, BlockPool]:
    """The model's runner, with usual passes recorded where that can be, and its pool of KV blocks.

    Raises ModelError or ConfigurationError, which names the setting, where the memory does not suffice.
    """
    try:
        if settings.kv_memory_mb is None and model.device.type == "cuda":
            runner, pool = share_out(model, settings.gpu_memory_share, use, measure_gpu)
        else:
            memory = (settings.kv_memory_mb or CPU_KV_MB) << 20
            pool = BlockPool(slots_for_memory(model.config, model.dtype, memory) // BLOCK)
            runner = use.build(model, pool.num_blocks * pool.block_size)
    except torch.OutOfMemoryError as error:
        raise ModelError(f"{kv_setting(settings)}: does not fit: {first_line(error)}") from error
    logger.info("KV of %d tokens, by %s", pool.num_blocks * pool.block_size, kv_setting(settings))
    start = time.perf_counter()
    runner.record(use.load)
    if runner.num_recorded:
        logger.info("%d shapes of passes recorded in %.1f s", runner.num_recorded, time.perf_counter() - start)
    return runner, pool


def share_out(
    model: PreTrainedModel, share: float, use: Use, measure: Callable[[torch.device, Call, Call, Call], GpuMemory]
) -> tuple[ModelRunner, BlockPool]:
    """KV of what the ``share`` leaves; all ranks of a divided model have as many blocks, the least of any.

    ``measure`` runs the largest forward pass, over just the KV that it needs, records one, and drops that KV.
    """
    device = model.device
    plan, num_slots = largest_pass(use.tokens, model.config.max_position_embeddings)
    runner = use.build(model, num_slots)
    memory = measure(
        device,
        lambda: use.run(runner, plan),
        lambda: runner.record(use.load, only_largest=True),
        lambda: runner.resize(0),
    )
    num_slots = slots_for_memory(model.config, model.dtype, kv_memory(memory, share))
    pool = BlockPool((num_slots if use.rank is None else use.rank.least(num_slots, device)) // BLOCK)
    runner.resize(pool.num_blocks * pool.block_size)
    return runner, pool


def largest_pass(num_tokens: int, context_limit: int) -> tuple[ForwardPlan, int]:
    """A pass of so many tokens, all with logits, in rows over long contexts, and the number of slots it needs."""
    row_tokens = min(ROW_TOKENS, max(1, context_limit // 2))
    length = min(ROW_CONTEXT, context_limit - row_tokens)
    context = np.arange(length, dtype=np.int32) % PIECE
    own = min(length, PIECE) + np.arange(num_tokens, dtype=np.int32)
    rows = [
        chain_row(context, np.zeros(len(slots), np.int32), slots, last_logits=False)
        for slots in np.split(own, range(row_tokens, num_tokens, row_tokens))
    ]
    plan = build_plan([replace(row, logits=np.arange(len(row.tokens))) for row in rows])
    return plan, int(own[-1]) + 1


def measure_gpu(device: torch.device, forward: Call, record: Call, drop_kv: Call) -> GpuMemory:
    """What there is on ``device`` once the KV that ``forward`` and ``record`` needed is dropped."""
    for _ in range(_PASSES):
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        forward()
    taken = torch.cuda.max_memory_allocated(device) - before
    with torch.cuda.device(device):
        torch.cuda.empty_cache()
        before = torch.cuda.memory_reserved(device)
        record()
        torch.cuda.empty_cache()
        kept = torch.cuda.memory_reserved(device) - before
        drop_kv()
        torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info(device)
    return GpuMemory(
        total=total, free=free, held=torch.cuda.memory_reserved(device), forward_pass=taken, recordings=kept
    )


def kv_setting(settings: EngineSettings) -> str:
    """The variable that decides how much KV there is, with its value."""
    if settings.kv_memory_mb is None and settings.device.startswith("cuda"):
        return f"{SHARE_VARIABLE}={settings.gpu_memory_share:g}"
    return f"ADASERVE_KV_MEMORY_MB={settings.kv_memory_mb or CPU_KV_MB}"
