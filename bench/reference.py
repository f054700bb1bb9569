"""Plain decoding, one token at a time, with nothing of the serving system in it: what outputs are compared with.

Written from the rule in docs/protocol.md alone and in another way than the verifier: logits are processed by
sorting all ids, every step is one stock `transformers` forward over one request with the library's own cache.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import DynamicCache, PreTrainedModel

Float64 = npt.NDArray[np.float64]
MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How a request draws; the neutral values filter nothing."""

    seed: int
    temperature: float
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)

    @property
    def is_adjusted(self) -> bool:
        """Whether bias or penalties change the logits."""
        penalties = (self.presence_penalty, self.frequency_penalty, self.repetition_penalty)
        return bool(self.logit_bias) or penalties != (0.0, 0.0, 1.0)

    @property
    def is_greedy(self) -> bool:
        """Whether it draws the argmax of the logits as they are."""
        return self.temperature == 0.0 and not self.is_adjusted


def splitmix(value: int) -> int:
    """One output of splitmix64 for the state ``value``."""
    value = (value + 0x9E3779B97F4A7C15) & MASK
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        value = ((value ^ (value >> shift)) * factor) & MASK
    return value ^ (value >> 31)


def gumbel(seed: int, position: int, vocab_size: int) -> Float64:
    """The noise of every id at one position, id by id in Python integers."""
    key = splitmix(splitmix(seed) ^ position)
    hashes = np.array([splitmix(key ^ token) >> 12 for token in range(vocab_size)], np.float64)
    return -np.log(-np.log((hashes + 0.5) / 2.0**52))


def keep_mask(scores: Float64, sampling: Sampling) -> npt.NDArray[np.bool_]:
    """Which ids top_k, top_p and min_p leave, in this order; ids that tie with the last one kept stay."""
    keep = np.ones(len(scores), np.bool_)
    falling = np.sort(scores)[::-1]
    if 0 < sampling.top_k < len(scores):
        keep &= scores >= falling[sampling.top_k - 1]
    if sampling.top_p < 1.0:
        weights = np.where(keep, np.exp(scores - falling[0]), 0.0)
        order = np.argsort(-weights, kind="stable")
        reached = np.cumsum(weights[order]) >= sampling.top_p * weights.sum()
        keep &= weights >= weights[order[int(np.argmax(reached))]]
    if sampling.min_p > 0.0:
        keep &= scores - falling[0] >= np.log(sampling.min_p)
    return keep


def adjusted(
    logits: npt.NDArray[np.floating[Any]], sampling: Sampling, prompt: Sequence[int], output: Sequence[int]
) -> npt.NDArray[np.floating[Any]]:
    """Logits with bias and penalties, [vocab]: as they are where there are none, else float64."""
    if not sampling.is_adjusted:
        return logits
    scores = np.asarray(logits, np.float64).copy()
    for token, bias in sampling.logit_bias.items():
        scores[token] += bias
    counts = np.bincount(np.array(output, np.int64), minlength=len(scores))
    seen = counts + np.bincount(np.array(prompt, np.int64), minlength=len(scores)) > 0
    repetition = sampling.repetition_penalty
    repeated = np.where(scores > 0, scores / repetition, scores * repetition)
    scores = np.where(seen, repeated, scores)
    scores -= sampling.frequency_penalty * counts
    scores -= sampling.presence_penalty * (counts > 0)
    return scores


def perturbed(logits: npt.NDArray[np.floating[Any]], sampling: Sampling, position: int) -> Float64:
    """What the token is the argmax of: processed logits plus noise, -inf where filtered, float64 [vocab]."""
    scores = np.asarray(logits, np.float64)
    if sampling.temperature == 0.0:
        return scores
    with np.errstate(over="ignore"):
        scores = (scores - scores.max()) / sampling.temperature
    noisy = scores + gumbel(sampling.seed, position, len(scores))
    return np.where(keep_mask(scores, sampling), noisy, -np.inf)


@torch.inference_mode()
def decode(
    model: PreTrainedModel,
    prompt: Sequence[int],
    sampling: Sampling,
    max_tokens: int,
    *,
    stops: Callable[[list[int]], bool] = lambda _: False,
    forced: Sequence[int] | None = None,
) -> tuple[list[int], list[npt.NDArray[np.floating[Any]]]]:
    """Output ids and the logits, with bias and penalties, each was drawn from.

    ``forced`` ids replace the drawn ones (teacher forcing).
    """
    cache = DynamicCache()
    feed = list(prompt)
    output: list[int] = []
    seen: list[npt.NDArray[np.floating[Any]]] = []
    while len(output) < max_tokens:
        logits = model(torch.tensor([feed]), past_key_values=cache, use_cache=True).logits[0, -1].numpy()
        logits = adjusted(logits, sampling, prompt, output)
        position = len(prompt) + len(output)
        token = int(np.argmax(perturbed(logits, sampling, position)))
        if forced is not None:
            token = forced[len(output)]
        output.append(token)
        seen.append(logits)
        feed = [token]
        if stops(output):
            break
    return output, seen
