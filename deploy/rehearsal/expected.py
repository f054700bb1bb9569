"""Prompts and what plain decoding makes of them: known before the load begins, with nothing of the system in it.

Prompts at which another order of float32 sums could decide are left out: then every difference is a fault.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bench.prompts import source_prompts
from bench.reference import Sampling, decode
from deploy.rehearsal.clients import Question
from shared.inference.loading import load_model
from shared.tokenizer import load_tokenizer

GREEDY = Sampling(seed=0, temperature=0.0)
CLEAR = 2e-3  # between the best logit and the next: many times what packing changes (bench.ties)
MAX_PROMPT = 48


def questions(model: Path, dtype: str, count: int, max_tokens: int) -> list[Question]:
    """``count`` of them, with answers of ``max_tokens``."""
    torch.set_num_threads(1)
    loaded, tokenizer = load_model(str(model), device="cpu", dtype=dtype), load_tokenizer(str(model))
    found: list[Question] = []
    for prompt in _prompts(tokenizer.encode, 3 * count):
        answer, logits = decode(loaded, prompt, GREEDY, max_tokens)
        if min(_lead(row) for row in logits) > CLEAR:
            found.append(Question(prompt, answer))
        if len(found) == count:
            return found
    raise ValueError(f"only {len(found)} of {count} prompts decode clearly")


def _prompts(encode: object, count: int) -> Iterator[list[int]]:
    assert callable(encode)
    for text in source_prompts(count, seed=5):
        yield encode(text, special=True)[:MAX_PROMPT]


def _lead(logits: npt.NDArray[np.floating[Any]]) -> float:
    second, best = np.partition(logits, -2)[-2:]
    return float(best - second)
