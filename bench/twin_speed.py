"""How fast a twin is beside its source: forward passes, and one stream through the real stack.

A section of `python -m bench.twin --measure`. Every forward pass gives the logits of all fed tokens; the prompts
of the streams are prefilled within the measured time. Other work on the machine shows in the ranges.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import DynamicCache

from bench.breaker import tokens_per_second
from bench.local import local_stack
from bench.prompts import source_prompts
from shared.inference.blocks import BlockPool
from shared.inference.loading import load_model
from shared.inference.profile import chain_plans, measure
from shared.inference.runner import ModelRunner

TOKEN_COUNTS = (1, 4, 8, 16, 32, 64)
CONTEXT = 128
THREADS = (1, 2)
REPEATS = 7
STREAMS = 5
STREAM_TOKENS = 96


def print_speed(source: Path, twin: Path) -> None:
    """Both sections, line by line as they are measured."""
    print(f"ms per forward pass, float32, context {CONTEXT}, median of {REPEATS}; tokens: {TOKEN_COUNTS}")
    before = torch.get_num_threads()
    for threads in THREADS:
        torch.set_num_threads(threads)
        for name, path in (("embedded", source), ("twin", twin)):
            for kind, measured in (("transformers", stock_ms(path)), ("ModelRunner", runner_ms(path))):
                print(f"{name:8} {kind:12} {threads} threads {''.join(f'{ms:8.1f}' for ms in measured)}")
    torch.set_num_threads(before)
    print(f"tokens/s of one greedy stream through the stack, median (range) of {STREAMS}, 1 thread a service")
    for name, path in (("embedded", source), ("twin", twin)):
        on, off = stream_speeds(path)
        ratios = [one / other for one, other in zip(on, off, strict=True)]
        print(
            f"{name:8} speculation on {_spread(on, 1)}   off {_spread(off, 1)}   paired ratio {_spread(ratios, 2)}"
        )


@torch.inference_mode()
def stock_ms(directory: Path) -> list[float]:
    """Stock transformers with its own cache, ms for each of TOKEN_COUNTS."""
    model: Any = load_model(str(directory), device="cpu", dtype="float32")
    cache = DynamicCache()
    model(torch.zeros((1, CONTEXT), dtype=torch.long), past_key_values=cache, use_cache=True)
    return [_median_ms(model, cache, count) for count in TOKEN_COUNTS]


def _median_ms(model: Any, cache: DynamicCache, count: int) -> float:
    ids = torch.zeros((1, count), dtype=torch.long)
    times = []
    for _ in range(REPEATS + 1):  # the first one warms up
        start = time.perf_counter()
        model(ids, past_key_values=cache, use_cache=True)
        times.append((time.perf_counter() - start) * 1e3)
        cache.crop(-count)
    return statistics.median(times[1:])


def runner_ms(directory: Path) -> list[float]:
    """The verifier's runner over one sequence, ms for each of TOKEN_COUNTS."""
    pool = BlockPool(2 * CONTEXT // 16)
    model = load_model(str(directory), device="cpu", dtype="float32")
    runner = ModelRunner(model, pool.num_blocks * pool.block_size)
    plans = chain_plans(pool, TOKEN_COUNTS, rows=1, context=CONTEXT, context_limit=2 * CONTEXT)
    return [sample.ms for sample in measure(runner.logits, plans, time.perf_counter)]


def stream_speeds(directory: Path) -> tuple[list[float], list[float]]:
    """Tokens per second of each prompt alone, with and without speculation, both sides in turn."""
    prompts = source_prompts(STREAMS, seed=3)
    on, off = [], []
    with local_stack(target=str(directory)) as stack:
        tokens_per_second(stack, prompts[:1], 16, speculation=True)  # the drafter is chosen, the paths are warm
        for prompt in prompts:
            on.append(tokens_per_second(stack, [prompt], STREAM_TOKENS, speculation=True))
            off.append(tokens_per_second(stack, [prompt], STREAM_TOKENS, speculation=False))
    return on, off


def _spread(values: Sequence[float], digits: int) -> str:
    median, low, high = (f"{value:.{digits}f}" for value in (statistics.median(values), min(values), max(values)))
    return f"{median} ({low} to {high})"
