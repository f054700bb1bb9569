"""Tokens per verification over the target's greedy continuations of held-out files."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from transformers import LlamaForCausalLM

from models.generate import continue_text
from models.tree import accepted_depths, count_verifications

BATCH = 8
PROMPT_LENGTHS = (128, 192, 256)
NEW_TOKENS = 128
SHAPES = ((4, 1), (4, 3), (6, 3), (8, 3))
MAX_DEPTH = max(depth for depth, _ in SHAPES)


def choose_prompts(documents: Sequence[list[int]], length: int, count: int) -> torch.Tensor:
    """[count, length] ids, each from the middle of a different held-out file."""
    usable = [ids for ids in documents if len(ids) > 2 * length][:count]
    starts = [(len(ids) - length) // 2 for ids in usable]
    rows = [ids[start : start + length] for ids, start in zip(usable, starts, strict=True)]
    return torch.tensor(rows)


def text_length(continuation: torch.Tensor) -> int:
    """Tokens up to and with the end of text, `NEW_TOKENS` at most."""
    ends = (continuation[:NEW_TOKENS] == 0).nonzero()
    return int(ends[0]) + 1 if len(ends) else NEW_TOKENS


class TreeScore:
    """Tokens and verifications per tree shape."""

    def __init__(self) -> None:
        self.totals = dict.fromkeys(SHAPES, (0, 0))

    def add(self, draft: LlamaForCausalLM, tokens: torch.Tensor, prompt_length: int) -> None:
        """Account for [batch, length] prompts with their greedy continuations."""
        for width in {width for _, width in SHAPES}:
            accepted = accepted_depths(draft, tokens, first_root=prompt_length - 1, depth=MAX_DEPTH, width=width)
            lengths = [text_length(row[prompt_length:]) for row in tokens]
            for shape in SHAPES:
                if shape[1] == width:
                    self.count(shape, accepted[..., shape[0] - 1].tolist(), lengths)

    def count(self, shape: tuple[int, int], depths: list[list[int]], lengths: list[int]) -> None:
        """Add the runs over some continuations."""
        tokens, verifications = self.totals[shape]
        for row, length in zip(depths, lengths, strict=True):
            more = count_verifications(row, length)
            tokens, verifications = tokens + more[0], verifications + more[1]
        self.totals[shape] = (tokens, verifications)

    def ratios(self) -> dict[str, float]:
        """Tokens per verification, the bonus token included, by "depth x width"."""
        return {
            f"{depth}x{width}": tokens / max(1, verifications)
            for (depth, width), (tokens, verifications) in self.totals.items()
        }


def score_trees(
    target: LlamaForCausalLM,
    draft: LlamaForCausalLM,
    documents: Sequence[list[int]],
    num_prompts: int,
) -> tuple[int, dict[str, float]]:
    """(prompts used, tokens per verification) over greedy continuations of held-out files."""
    score, used = TreeScore(), 0
    per_length = math.ceil(num_prompts / len(PROMPT_LENGTHS))
    for index, length in enumerate(PROMPT_LENGTHS):
        prompts = choose_prompts(documents[index :: len(PROMPT_LENGTHS)], length, per_length)
        tokens = continue_text(target, prompts.to(target.device), NEW_TOKENS + MAX_DEPTH)
        for part in torch.split(tokens, BATCH):
            score.add(draft, part, length)
        used += len(prompts)
    return used, score.ratios()
