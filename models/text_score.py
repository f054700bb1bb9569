"""How well both models predict held-out text, and how far they agree."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional
from transformers import LlamaForCausalLM

from models.losses import token_logits
from models.tokens import TokenArray

WINDOW = 1024
STRIDE = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class TextScore:
    """Sums over scored tokens."""

    target_nats: float = 0.0
    draft_nats: float = 0.0
    agreed: int = 0
    covered: int = 0
    tokens: int = 0

    def __add__(self, other: TextScore) -> TextScore:
        return TextScore(
            target_nats=self.target_nats + other.target_nats,
            draft_nats=self.draft_nats + other.draft_nats,
            agreed=self.agreed + other.agreed,
            covered=self.covered + other.covered,
            tokens=self.tokens + other.tokens,
        )


def scored_windows(tokens: TokenArray) -> Iterator[tuple[torch.Tensor, int]]:
    """(window ids, index of the first scored prediction): overlapping, every token scored once."""
    ids = torch.from_numpy(tokens.astype(np.int64))
    for begin in range(0, len(ids) - STRIDE, STRIDE):
        yield ids[begin : begin + WINDOW + 1], 0 if begin == 0 else WINDOW - STRIDE


@torch.inference_mode()
def score_window(target: LlamaForCausalLM, draft: LlamaForCausalLM, window: torch.Tensor, first: int) -> TextScore:
    """Losses and agreement of both models on one window of ids."""
    window = window.to(target.device).unsqueeze(0)
    truth = window[0, 1 + first :]
    target_logits = token_logits(target, window[:, :-1])[first:]
    draft_logits = token_logits(draft, window[:, :-1])[first:]
    choices = target_logits.argmax(-1, keepdim=True)
    top = draft_logits.topk(3).indices
    return TextScore(
        target_nats=float(functional.cross_entropy(target_logits, truth, reduction="sum")),
        draft_nats=float(functional.cross_entropy(draft_logits, truth, reduction="sum")),
        agreed=int((top[:, :1] == choices).sum()),
        covered=int((top == choices).sum()),
        tokens=len(truth),
    )


def score_text(target: LlamaForCausalLM, draft: LlamaForCausalLM, tokens: TokenArray) -> TextScore:
    """Sums over the whole held-out text."""
    windows = scored_windows(tokens)
    return sum((score_window(target, draft, *window) for window in windows), TextScore())


def bits_per_byte(nats: float, scored: int, tokens: int, num_bytes: int) -> float:
    """Bits per byte of all `tokens`, from the nats of the `scored` ones (all but the first)."""
    return nats / scored * tokens / math.log(2) / num_bytes
