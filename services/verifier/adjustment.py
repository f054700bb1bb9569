"""What a request adds to and takes from the target's logits before its temperature: bias and penalties. Pure.

In this order, as vLLM: `logit_bias`; `repetition_penalty` over the ids of prompt and output (a positive logit is
divided by it, a negative one multiplied); `frequency_penalty` times the count of an id in the output and
`presence_penalty` once for each id there. Only ids that occur are touched: their counts are kept as the output
grows, and those of a path through a tree are added for the one node that is drawn at.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from shared.messages import Request

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

FIRST_CAPACITY = 64
HIGHEST = 1e300  # a score over a tiny penalty stays a number


class Adjustment:
    """One request's bias and penalties, and the ids they count: those of ``extend``, the output so far."""

    def __init__(self, request: Request) -> None:
        self._bias_ids = request.bias_ids.astype(np.int64)
        self._bias = request.bias
        self._repetition = request.repetition_penalty
        self._frequency = request.frequency_penalty
        self._presence = request.presence_penalty
        self._seen = _Counts()
        if self._repetition != 1.0:
            self._seen.add(request.prompt.tolist(), 0)

    @classmethod
    def of(cls, request: Request) -> Adjustment | None:
        """None for a request that adjusts nothing, so that it costs nothing."""
        neutral = (request.repetition_penalty, request.frequency_penalty, request.presence_penalty) == (
            1.0,
            0.0,
            0.0,
        )
        return None if neutral and not len(request.bias_ids) else cls(request)

    @property
    def _has_penalties(self) -> bool:
        return (self._repetition, self._frequency, self._presence) != (1.0, 0.0, 0.0)

    def extend(self, tokens: Iterable[int]) -> None:
        """The output has grown."""
        if self._has_penalties:
            self._seen.add(tokens, 1)

    def apply(self, scores: Float64, path: Sequence[int]) -> None:
        """Adjust ``scores`` [vocab] in place, for a draw that comes after the output and then ``path``."""
        scores[self._bias_ids] += self._bias
        if not self._has_penalties:
            return
        ids, counts = self._seen.along(path)
        seen = scores[ids]
        if self._repetition != 1.0:
            with np.errstate(over="ignore"):
                seen = np.where(seen > 0.0, seen / self._repetition, seen * self._repetition)
            seen = np.minimum(seen, HIGHEST)
        # One expression of all counts: a token on the path must give the float that it gives once committed.
        scores[ids] = seen - self._frequency * counts - self._presence * (counts > 0)


class _Counts:
    """Id -> count, as arrays that grow."""

    def __init__(self) -> None:
        self._places: dict[int, int] = {}
        self._ids = np.empty(FIRST_CAPACITY, np.int64)
        self._counts = np.zeros(FIRST_CAPACITY)

    def add(self, tokens: Iterable[int], count: int) -> None:
        for token in tokens:
            place = self._places.setdefault(token, len(self._places))
            if place == len(self._ids):
                self._ids = np.concatenate([self._ids, np.empty_like(self._ids)])
                self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
            self._ids[place] = token
            self._counts[place] += count

    def along(self, path: Sequence[int]) -> tuple[Int64, Float64]:
        """Ids, each once, and their counts with those of ``path``."""
        size = len(self._places)
        ids, counts = self._ids[:size], self._counts[:size]
        if not path:
            return ids, counts
        counts = counts.copy()
        new: dict[int, int] = {}
        for token in path:
            if (place := self._places.get(token)) is not None:
                counts[place] += 1
            else:
                new[token] = new.get(token, 0) + 1
        return np.concatenate([ids, np.array(list(new), np.int64)]), np.concatenate([counts, list(new.values())])
