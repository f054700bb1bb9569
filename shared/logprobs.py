"""Log-probabilities of output tokens as bytes: one entry of fixed size for each token, so that a cut is a slice.

They are the model's own: log-softmax of its logits, before bias, penalties, temperature and filters (as vLLM's raw
ones), in float64 and kept as float32. They travel with the tokens: in the commit, the journal and the TokenEvent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

MAX_TOP = 20
LOWEST = -9999.0  # JSON has no infinity
_NOBODY = -1  # id that fills an entry where the vocabulary has fewer tokens than were asked for


class TokenLogprob(NamedTuple):
    """Of one token; ``top`` are the likeliest ids with theirs, falling."""

    logprob: float
    top: list[tuple[int, float]]


def entry_size(num_top: int | None) -> int:
    """Bytes per token; none where log-probabilities are not asked for."""
    return 0 if num_top is None else 4 + 8 * num_top


def _entry(num_top: int) -> np.dtype[Any]:
    return np.dtype([("logprob", "<f4"), ("ids", "<i4", (num_top,)), ("logprobs", "<f4", (num_top,))])


def pack(logits: npt.NDArray[np.floating[Any]], tokens: Sequence[int], num_top: int) -> bytes:
    """Entries of ``tokens`` [n], drawn from ``logits`` [n, vocab] in turn."""
    scores = logits.astype(np.float64)
    scores -= scores.max(axis=1, keepdims=True)
    scores -= np.log(np.exp(scores).sum(axis=1, keepdims=True))
    entries = np.zeros(len(tokens), _entry(num_top))
    entries["logprob"] = scores[np.arange(len(tokens)), list(tokens)]
    entries["ids"], entries["logprobs"] = _NOBODY, LOWEST
    count = min(num_top, scores.shape[1])
    if count:
        found = np.argpartition(-scores, count - 1, axis=1)[:, :count]
        values = np.take_along_axis(scores, found, axis=1)
        order = np.lexsort((found, -values), axis=1)
        entries["ids"][:, :count] = np.take_along_axis(found, order, axis=1)
        entries["logprobs"][:, :count] = np.take_along_axis(values, order, axis=1)
    return entries.tobytes()


def unpack(packed: bytes, num_top: int) -> list[TokenLogprob]:
    """Raises ValueError where the bytes are no whole entries."""
    return [
        TokenLogprob(
            max(LOWEST, float(entry["logprob"])),
            [
                (token, max(LOWEST, value))
                for token, value in zip(entry["ids"].tolist(), entry["logprobs"].tolist(), strict=True)
                if token != _NOBODY
            ],
        )
        for entry in np.frombuffer(packed, _entry(num_top))
    ]
