"""Token streams: documents encoded once into a cached array, served as shuffled windows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedTokenizerFast

TokenArray: TypeAlias = npt.NDArray[np.uint16]

ENCODE_BATCH = 256


def encode_documents(texts: Iterable[str], tokenizer: PreTrainedTokenizerFast) -> TokenArray:
    """All documents end to end, each followed by the end-of-text id."""
    backend = tokenizer.backend_tokenizer
    return np.concatenate(
        [
            np.array([*encoding.ids, tokenizer.eos_token_id], dtype=np.uint16)
            for batch in batched(texts, ENCODE_BATCH)
            for encoding in backend.encode_batch(batch)
        ]
    )


def batched(items: Iterable[str], size: int) -> Iterator[list[str]]:
    """Lists of up to `size` items."""
    batch: list[str] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def save_tokens(tokens: TokenArray, path: Path) -> None:
    """Write raw 16-bit ids, atomically."""
    partial = path.with_suffix(".partial")
    tokens.tofile(partial)
    partial.replace(path)


def load_tokens(path: Path) -> TokenArray:
    """Map raw 16-bit ids into memory."""
    return np.memmap(path, dtype=np.uint16, mode="r")


class Batches(Protocol):
    """A source of training batches."""

    def batch(self, start_token: int, *, sequences: int, length: int) -> torch.Tensor:
        """[sequences, length + 1] ids; `start_token` counts tokens served so far."""


class Windows:
    """Endless shuffled windows over a token array; every epoch shifts the window grid.

    Indexed by step alone, so that a resumed run continues where it stopped.
    """

    def __init__(self, tokens: TokenArray, *, seed: int = 0) -> None:
        self.tokens = tokens
        self.seed = seed

    def batch(self, start_token: int, *, sequences: int, length: int) -> torch.Tensor:
        """[sequences, length + 1] int64 windows; `start_token` counts tokens served so far."""
        per_epoch = (len(self.tokens) - 1) // length - 1
        first = start_token // length
        rows = [self._window(first + row, per_epoch, length) for row in range(sequences)]
        return torch.from_numpy(np.stack(rows).astype(np.int64))

    def _window(self, index: int, per_epoch: int, length: int) -> TokenArray:
        epoch, position = divmod(index, per_epoch)
        random = np.random.default_rng((self.seed, epoch, length))
        shift = int(random.integers(length))
        multiplier = coprime_multiplier(per_epoch, random)
        slot = position * multiplier % per_epoch
        begin = shift + slot * length
        return self.tokens[begin : begin + length + 1]


def coprime_multiplier(modulus: int, random: np.random.Generator) -> int:
    """A random factor whose multiples visit every residue: a permutation without a table."""
    while True:
        candidate = int(random.integers(modulus // 3, modulus))
        if np.gcd(candidate, modulus) == 1:
            return candidate


class Mixture:
    """Windows of two streams side by side in every batch."""

    def __init__(self, first: Windows, second: Windows, *, second_share: float) -> None:
        self.first = first
        self.second = second
        self.second_share = second_share

    def batch(self, start_token: int, *, sequences: int, length: int) -> torch.Tensor:
        """[sequences, length + 1] ids; `second_share` of the rows are from the second stream."""
        from_second = round(sequences * self.second_share)
        start_second = int(start_token * self.second_share)
        parts = (
            self.first.batch(start_token - start_second, sequences=sequences - from_second, length=length),
            self.second.batch(start_second, sequences=from_second, length=length),
        )
        return torch.cat(parts)
