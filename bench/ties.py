"""When two float32 computations may rightly draw different tokens (docs/protocol.md, drawing tokens)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bench.local import TARGET
from bench.prompts import source_prompts
from bench.reference import Float64, Sampling, keep_mask
from shared.inference.blocks import BlockPool, SequenceSlots
from shared.inference.loading import load_model
from shared.inference.plan import build_plan, chain_row
from shared.inference.runner import ModelRunner
from shared.tokenizer import load_tokenizer

NUM_SEQUENCES = 16
CHUNK = 24


def is_tie(
    scores: Float64,
    logits: npt.NDArray[np.floating[Any]],
    sampling: Sampling,
    drawn: int,
    tolerance: float,
) -> bool:
    """Whether ``drawn`` could have won had every logit been off by ``tolerance``.

    ``scores`` are the reference's perturbed ones, float64 [vocab], -inf where filtered. Either the drawn token is
    within the tolerance of the best, or a token of the two lies that close to a filter's boundary.
    """
    scaled = tolerance / (sampling.temperature or 1.0)
    best = int(np.argmax(scores))
    if np.isfinite(scores[drawn]):
        return bool(scores[best] - scores[drawn] <= 2 * scaled)
    raw = np.asarray(logits, np.float64) / (sampling.temperature or 1.0)
    nudged = raw.copy()
    nudged[drawn] += 2 * scaled
    return bool(keep_mask(nudged, sampling)[drawn])


def packing_error(dtype: str, device: str = "cpu") -> float:
    """Largest difference of a logit between packed forwards of many requests and a CPU's stock ones of each."""
    tokenizer = load_tokenizer(TARGET)
    prompts = [tokenizer.encode(prompt, special=False)[:128] for prompt in source_prompts(NUM_SEQUENCES, seed=1)]
    stock = load_model(TARGET, device="cpu", dtype=dtype)
    with torch.inference_mode():
        expected = [stock(torch.tensor([prompt])).logits[0].numpy() for prompt in prompts]
    pool = BlockPool(1024)
    runner = ModelRunner(load_model(TARGET, device=device, dtype=dtype), pool.num_blocks * pool.block_size)
    sequences = [SequenceSlots(pool) for _ in prompts]
    worst = 0.0
    for start in range(0, max(map(len, prompts)), CHUNK):
        active = [index for index, prompt in enumerate(prompts) if start < len(prompt)]
        rows = []
        for index in active:
            end = min(start + CHUNK, len(prompts[index]))
            sequences[index].reserve(end)
            rows.append(
                chain_row(
                    sequences[index].slots(0, start),
                    np.array(prompts[index][start:end], np.int32),
                    sequences[index].slots(start, end),
                    last_logits=True,
                )
            )
        logits = runner.logits(build_plan(rows))
        for row, index in enumerate(active):
            end = min(start + CHUNK, len(prompts[index]))
            worst = max(worst, float(np.abs(logits[row] - expected[index][end - 1]).max()))
    return worst
