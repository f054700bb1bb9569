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
REPEAT = 12
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


def fresh_length(continuation: torch.Tensor) -> int:
    """Tokens before the text starts to repeat itself: before the first `REPEAT` ids seen already.

    Small models loop when decoded greedily, and a loop is guessed almost perfectly.
    """
    ids = continuation[: text_length(continuation)].tolist()
    seen: set[tuple[int, ...]] = set()
    for end in range(REPEAT, len(ids) + 1):
        gram = tuple(ids[end - REPEAT : end])
        if gram in seen:
            return end - REPEAT
        seen.add(gram)
    return len(ids)


class TreeScore:
    """Tokens and verifications per tree shape."""

    def __init__(self) -> None:
        self.totals = dict.fromkeys(SHAPES, (0, 0))

    def add(self, accepted: dict[int, torch.Tensor], lengths: Sequence[int]) -> None:
        """Account for runs over the first `lengths` tokens; `accepted` is by width."""
        for shape in SHAPES:
            tokens, verifications = self.totals[shape]
            depths = accepted[shape[1]][..., shape[0] - 1].tolist()
            for row, length in zip(depths, lengths, strict=True):
                tokens += length
                verifications += count_verifications(row, length)
            self.totals[shape] = (tokens, verifications)

    @property
    def num_tokens(self) -> int:
        """Tokens accounted for; the same for every shape."""
        return self.totals[SHAPES[0]][0]

    def ratios(self) -> dict[str, float]:
        """Tokens per verification, the bonus token included, by "depth x width"."""
        return {
            f"{depth}x{width}": tokens / max(1, verifications)
            for (depth, width), (tokens, verifications) in self.totals.items()
        }


class ContinuationScore:
    """Whole continuations, and each up to where it starts to repeat itself."""

    def __init__(self) -> None:
        self.prompts = 0
        self.whole = TreeScore()
        self.fresh = TreeScore()

    def add(self, draft: LlamaForCausalLM, tokens: torch.Tensor, prompt_length: int) -> None:
        """Account for [batch, length] prompts with their greedy continuations."""
        first_root = prompt_length - 1
        accepted = {
            width: accepted_depths(draft, tokens, first_root=first_root, depth=MAX_DEPTH, width=width)
            for width in {width for _, width in SHAPES}
        }
        continuations = tokens[:, prompt_length:]
        self.prompts += len(tokens)
        self.whole.add(accepted, [text_length(row) for row in continuations])
        self.fresh.add(accepted, [fresh_length(row) for row in continuations])


def score_trees(
    target: LlamaForCausalLM,
    draft: LlamaForCausalLM,
    documents: Sequence[list[int]],
    num_prompts: int,
) -> ContinuationScore:
    """Score trees over greedy continuations of held-out files."""
    score = ContinuationScore()
    per_length = math.ceil(num_prompts / len(PROMPT_LENGTHS))
    for index, length in enumerate(PROMPT_LENGTHS):
        prompts = choose_prompts(documents[index :: len(PROMPT_LENGTHS)], length, per_length)
        tokens = continue_text(target, prompts.to(target.device), NEW_TOKENS + MAX_DEPTH)
        for part in torch.split(tokens, BATCH):
            score.add(draft, part, length)
    return score
