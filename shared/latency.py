"""T(n, S): how long one forward pass takes, as the verifier measures it and the selector uses it.

Pure: no clock, no Redis. The verifier fits the model at start (`latency_fit`), corrects it while it serves
(`latency_refit`) and publishes the bytes; the selector reads them by version.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b
from itertools import pairwise
from typing import Any, Self, overload

import msgpack
import numpy as np
from numpy.typing import ArrayLike, NDArray

from shared.errors import UnreadableMessage

MAX_POINTS = 512
MAX_BUCKETS = 512
MAX_TOKENS = 1 << 20
MAX_BYTES = 16 * 1024
SCHEMA = 2
_TOKENS, _MS = np.dtype("<i4"), np.dtype("<f8")
_COLUMNS = ("tokens", "ms", "buckets")
_NUMBERS = ("context_ms", "row_ms")

Numbers = float | NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class LatencyModel:
    """T(n, S, rows) = curve(n) + context_ms · S / 1000 + row_ms · rows, in ms.

    n new tokens, S tokens of KV that are read, `rows` requests. The curve runs through the points
    (`tokens`, `ms`), linear between them and past the last one; `tokens` starts at 1 and rises strictly, `ms` is
    positive, finite and never falls. Forwards are padded up to the end of their bucket in `buckets`, which rise
    strictly; with none, and above the last one, every size is its own. Anything else is a ValueError.
    """

    tokens: tuple[int, ...]
    ms: tuple[float, ...]
    context_ms: float = 0.0  # per 1000 tokens of KV
    row_ms: float = 0.0
    buckets: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if len(self.tokens) != len(self.ms):
            raise ValueError(f"latency model: {len(self.tokens)} token counts for {len(self.ms)} durations")
        if not 2 <= len(self.tokens) <= MAX_POINTS:
            raise ValueError(f"latency model: {len(self.tokens)} points, must be 2 to {MAX_POINTS}")
        if self.tokens[0] != 1:
            raise ValueError(f"latency model: token counts start at {self.tokens[0]}, must start at 1")
        _check_sizes("token counts", self.tokens)
        _check_sizes("buckets", self.buckets)
        if len(self.buckets) > MAX_BUCKETS:
            raise ValueError(f"latency model: {len(self.buckets)} buckets, the limit is {MAX_BUCKETS}")
        if not all(0.0 < ms < math.inf for ms in self.ms):
            raise ValueError("latency model: durations must be positive and finite")
        if any(a > b for a, b in pairwise(self.ms)):
            raise ValueError("latency model: durations must not fall as tokens rise")
        for name in _NUMBERS:
            if not 0.0 <= getattr(self, name) < math.inf:
                raise ValueError(f"latency model: {name} {getattr(self, name)} must be finite and not negative")

    @classmethod
    def from_samples(cls, tokens: ArrayLike, ms: ArrayLike) -> Self:
        """The curve alone, of raw measurements in any order, counts may repeat.

        Keeps the lower monotone envelope: noise only ever adds time, and a larger forward that ran faster proves
        what the smaller one can cost.
        """
        counts, times = np.asarray(tokens, dtype=np.int64), np.asarray(ms, dtype=np.float64)
        if counts.ndim != 1 or counts.shape != times.shape:
            raise ValueError(f"latency model: samples of shape {counts.shape} and {times.shape}")
        order = np.lexsort((times, counts))
        points, first = np.unique(counts[order], return_index=True)
        envelope = np.minimum.accumulate(times[order][first][::-1])[::-1]
        return cls(tokens=tuple(points.tolist()), ms=tuple(envelope.tolist()))

    def corrected(self, *, scale: float, offset_ms: float, context_ms: float, row_ms: float) -> Self:
        """The model with its curve stretched by `scale` and raised by `offset_ms`, and with these other parts."""
        ms = tuple(scale * ms + offset_ms for ms in self.ms)
        return replace(self, ms=ms, context_ms=context_ms, row_ms=row_ms)

    def padded(self, tokens: int) -> int:
        """How many tokens a forward of `tokens` really computes: the end of its bucket."""
        bucket = bisect_left(self.buckets, tokens)
        return self.buckets[bucket] if bucket < len(self.buckets) else tokens

    @overload
    def predict_ms(self, tokens: int, *, context_tokens: float = 0, rows: float = 0) -> float: ...
    @overload
    def predict_ms(
        self, tokens: NDArray[np.integer[Any]], *, context_tokens: Numbers = 0, rows: Numbers = 0
    ) -> NDArray[np.float64]: ...
    def predict_ms(
        self, tokens: int | NDArray[np.integer[Any]], *, context_tokens: Numbers = 0, rows: Numbers = 0
    ) -> float | NDArray[np.float64]:
        """T in ms of a forward over `tokens` new tokens of `rows` requests, reading `context_tokens` of KV.

        Never less than of one token. With an array of tokens the others are numbers or arrays like it.
        """
        around = self.context_ms * context_tokens / 1e3 + self.row_ms * rows
        if isinstance(tokens, np.ndarray):
            return self._curve(self._padded(tokens)) + around
        return float(self._curve(self.padded(tokens)) + around)

    def budget(self, ratio: float = 2.5) -> int:
        """Largest token count B with T(B) ≤ ratio · T(1) on the bare curve, at most the largest that was measured.

        Past the last point T is only a guess, good for a prediction but not for a promise about capacity.
        Raises ValueError for a ratio under 1.
        """
        if not ratio >= 1.0:
            raise ValueError(f"budget ratio {ratio}: must be at least 1")
        measured = self.predict_ms(np.arange(1, self.tokens[-1] + 1))
        return int(np.searchsorted(measured, ratio * measured[0], side="right"))

    @cached_property
    def version(self) -> str:
        """Content hash, hex: equal models have equal versions, whoever measured them."""
        return blake2b(self.to_bytes(), digest_size=8).hexdigest()

    def to_bytes(self) -> bytes:
        """The msgpack map stored under `profile:<verifier>:<version>`."""
        columns = {
            "tokens": np.array(self.tokens, dtype=_TOKENS).tobytes(),
            "ms": np.array(self.ms, dtype=_MS).tobytes(),
            "buckets": np.array(self.buckets, dtype=_TOKENS).tobytes(),
        }
        packed: bytes = msgpack.packb(
            {"v": SCHEMA, **columns, "context_ms": float(self.context_ms), "row_ms": float(self.row_ms)}
        )
        return packed

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Reverse of `to_bytes`. Raises UnreadableMessage naming what is wrong."""
        try:
            fields = _unpack(data)
            return cls(
                tokens=tuple(np.frombuffer(fields["tokens"], _TOKENS).tolist()),
                ms=tuple(np.frombuffer(fields["ms"], _MS).tolist()),
                context_ms=fields["context_ms"],
                row_ms=fields["row_ms"],
                buckets=tuple(np.frombuffer(fields["buckets"], _TOKENS).tolist()),
            )
        except ValueError as error:
            raise UnreadableMessage(str(error)) from error

    def _padded(self, tokens: NDArray[Any]) -> NDArray[Any]:
        if not self.buckets:
            return tokens
        ends = self._ends
        padded: NDArray[Any] = np.maximum(ends.take(ends.searchsorted(tokens), mode="clip"), tokens)
        return padded

    def _curve(self, tokens: int | NDArray[Any]) -> NDArray[np.float64]:
        counts, times = self._points
        beyond = np.maximum(tokens - self.tokens[-1], 0)
        curve: NDArray[np.float64] = np.interp(tokens, counts, times) + beyond * self._last_slope
        return curve

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        return np.array(self.buckets, dtype=np.int64)

    @cached_property
    def _points(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return np.array(self.tokens, dtype=np.float64), np.array(self.ms, dtype=np.float64)

    @cached_property
    def _last_slope(self) -> float:
        return (self.ms[-1] - self.ms[-2]) / (self.tokens[-1] - self.tokens[-2])


def _check_sizes(name: str, sizes: Sequence[int]) -> None:
    if any(a >= b for a, b in pairwise((0, *sizes))):
        raise ValueError(f"latency model: {name} must be positive and rise strictly")
    if sizes and sizes[-1] > MAX_TOKENS:
        raise ValueError(f"latency model: {name} of {sizes[-1]} tokens, the limit is {MAX_TOKENS}")


def _unpack(data: bytes) -> dict[str, Any]:
    if len(data) > MAX_BYTES:
        raise ValueError(f"latency model: {len(data)} bytes, the limit is {MAX_BYTES}")
    names = {"v", *_COLUMNS, *_NUMBERS}
    try:
        fields = msgpack.unpackb(data, raw=False, max_map_len=len(names), max_array_len=0)
    except Exception as error:  # msgpack raises many kinds, all meaning the same here
        raise ValueError(f"latency model: not msgpack ({error})") from error
    if not isinstance(fields, dict) or set(fields) != names:
        raise ValueError(f"latency model: fields must be exactly {', '.join(sorted(names))}")
    if fields["v"] != SCHEMA or isinstance(fields["v"], bool):
        raise ValueError(f"latency model: schema version {fields['v']!r}, known is {SCHEMA}")
    for name in _COLUMNS:
        if not isinstance(fields[name], bytes):
            raise ValueError(f"latency model: column {name} must be bytes")
    for name in _NUMBERS:
        if not isinstance(fields[name], float):
            raise ValueError(f"latency model: {name} must be a float")
    return fields
