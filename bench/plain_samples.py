"""Stock transformers' side of a comparison of samplers: what it draws at temperature 1, how likely it finds it.

Nothing of the serving system is in it. It draws by cumulated probabilities, with chance of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import DynamicCache, PreTrainedModel

Int32 = npt.NDArray[np.int32]
Float64 = npt.NDArray[np.float64]

BATCH = 64


class Plain:
    """A stock model and one prompt. Ids from ``vocab_size`` on are padding of the model's and never drawn."""

    def __init__(self, model: PreTrainedModel, prompt: Sequence[int], vocab_size: int) -> None:
        self._model: Any = model
        self._prompt = list(prompt)
        self._vocab_size = vocab_size

    @torch.inference_mode()
    def draw(self, samples: int, num_tokens: int, chance: np.random.Generator) -> Int32:
        """[samples, num_tokens]."""
        return np.concatenate([self._draw(size, num_tokens, chance) for size in _sizes(samples)])

    @torch.inference_mode()
    def log_probs(self, sequences: Int32) -> Float64:
        """Of whole outputs, [n, num_tokens] -> [n]; a function of each output alone."""
        size, found = sequences.shape[1], []
        for start in range(0, len(sequences), BATCH):
            outputs = torch.from_numpy(sequences[start : start + BATCH].astype(np.int64))
            ids = torch.cat([torch.tensor([self._prompt] * len(outputs)), outputs], 1).to(self._model.device)
            logits = self._model(ids[:, :-1], logits_to_keep=size).logits[..., : self._vocab_size]
            log_probs = torch.log_softmax(logits.double(), -1)
            found.append(log_probs.gather(2, ids[:, -size:, None]).sum((1, 2)).cpu().numpy())
        return np.concatenate(found)

    def _draw(self, size: int, num_tokens: int, chance: np.random.Generator) -> Int32:
        feed, cache = torch.tensor([self._prompt] * size), DynamicCache()
        output = []
        for _ in range(num_tokens):
            logits = self._model(
                feed.to(self._model.device), past_key_values=cache, use_cache=True, logits_to_keep=1
            ).logits[:, -1, : self._vocab_size]
            cumulated = torch.softmax(logits.double(), -1).cumsum(-1).cpu().numpy()
            points = chance.random(size) * cumulated[:, -1]
            output.append((cumulated <= points[:, None]).sum(1))
            feed = torch.from_numpy(output[-1])[:, None]
        return np.stack(output, 1).astype(np.int32)


def _sizes(samples: int) -> Iterator[int]:
    for start in range(0, samples, BATCH):
        yield min(BATCH, samples - start)
