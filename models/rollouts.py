"""Text written by the target itself, for the draft to train on what it will be asked to guess."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
import torch

from models.generate import continue_text
from models.storage import load_model
from models.tokens import TokenArray, Windows, load_tokens, save_tokens

PROMPT_TOKENS = 128
NEW_TOKENS = 192
BATCH = 64
TEMPERATURES = (0.0, 0.0, 0.7)
PROMPT_SEED = 1


def write_rollouts(target: Path, tokens: TokenArray, *, device: torch.device, budget_s: float) -> TokenArray:
    """Prompts from training text with their continuations, as one stream.

    Two thirds are continued greedily, one third sampled; stops after about `budget_s`.
    """
    model = load_model(target, device).to(torch.bfloat16)
    windows = Windows(tokens, seed=PROMPT_SEED)
    begin = time.monotonic()
    batches: list[torch.Tensor] = []
    for prompts, temperature in prompt_batches(windows):
        batches.append(continue_text(model, prompts.to(device), NEW_TOKENS, temperature=temperature).cpu())
        if time.monotonic() - begin >= budget_s:
            break
    return torch.cat(batches).flatten().numpy().astype(np.uint16)


def prompt_batches(windows: Windows) -> Iterator[tuple[torch.Tensor, float]]:
    """([batch, prompt] ids, temperature), without end."""
    for index in count():
        start = index * BATCH * PROMPT_TOKENS
        prompts = windows.batch(start, sequences=BATCH, length=PROMPT_TOKENS)[:, :-1]
        yield prompts, TEMPERATURES[index % len(TEMPERATURES)]


def prepare_rollouts(
    path: Path, target: Path, tokens: TokenArray, *, device: torch.device, budget_s: float
) -> TokenArray:
    """The cached rollouts, or new ones."""
    if not path.exists():
        save_tokens(write_rollouts(target, tokens, device=device, budget_s=budget_s), path)
    return load_tokens(path)
