"""How long one verification forward takes for a number of tokens: measured by the verifier, used by the selector.

Pure: no clock, no Redis. The verifier measures at start and publishes the bytes; the selector reads them by
version.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from itertools import pairwise
from typing import Any, Self, overload

import msgpack
import numpy as np
from numpy.typing import ArrayLike, NDArray

from shared.errors import UnreadableMessage

MAX_POINTS = 512
MAX_TOKENS = 1 << 20
MAX_BYTES = 16 * 1024
SCHEMA = 1
_TOKENS, _MS = np.dtype("<i4"), np.dtype("<f8")


@dataclass(frozen=True, kw_only=True)
class LatencyTable:
    """Points of T(tokens) in ms, linear between them and past the last one.

    `tokens` starts at 1 and rises strictly; `ms` is positive, finite and never falls. Anything else is a
    ValueError.
    """

    tokens: tuple[int, ...]
    ms: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.tokens) != len(self.ms):
            raise ValueError(f"latency table: {len(self.tokens)} token counts for {len(self.ms)} durations")
        if not 2 <= len(self.tokens) <= MAX_POINTS:
            raise ValueError(f"latency table: {len(self.tokens)} points, must be 2 to {MAX_POINTS}")
        if self.tokens[0] != 1 or any(a >= b for a, b in pairwise(self.tokens)):
            raise ValueError("latency table: token counts must start at 1 and rise strictly")
        if self.tokens[-1] > MAX_TOKENS:
            raise ValueError(f"latency table: {self.tokens[-1]} tokens, the limit is {MAX_TOKENS}")
        if not all(0.0 < ms < math.inf for ms in self.ms):
            raise ValueError("latency table: durations must be positive and finite")
        if any(a > b for a, b in pairwise(self.ms)):
            raise ValueError("latency table: durations must not fall as tokens rise")

    @classmethod
    def from_samples(cls, tokens: ArrayLike, ms: ArrayLike) -> Self:
        """The table of raw measurements, in any order, counts may repeat.

        Keeps the lower monotone envelope: noise only ever adds time, and a larger forward that ran faster proves
        what the smaller one can cost.
        """
        counts, times = np.asarray(tokens, dtype=np.int64), np.asarray(ms, dtype=np.float64)
        if counts.ndim != 1 or counts.shape != times.shape:
            raise ValueError(f"latency table: samples of shape {counts.shape} and {times.shape}")
        order = np.lexsort((times, counts))
        points, first = np.unique(counts[order], return_index=True)
        envelope = np.minimum.accumulate(times[order][first][::-1])[::-1]
        return cls(tokens=tuple(points.tolist()), ms=tuple(envelope.tolist()))

    @overload
    def predict_ms(self, tokens: int) -> float: ...
    @overload
    def predict_ms(self, tokens: NDArray[np.integer[Any]]) -> NDArray[np.float64]: ...
    def predict_ms(self, tokens: int | NDArray[np.integer[Any]]) -> float | NDArray[np.float64]:
        """Predicted ms of a forward over `tokens` tokens, never less than of one token."""
        counts, times = self._points
        beyond = np.maximum(np.asarray(tokens) - self.tokens[-1], 0)
        predicted = np.interp(tokens, counts, times) + beyond * self._last_slope
        return predicted if isinstance(tokens, np.ndarray) else float(predicted)

    def budget(self, ratio: float = 2.5) -> int:
        """Largest token count B with T(B) ≤ ratio · T(1), at most the largest that was measured.

        Past the last point T is only a guess, good for a prediction but not for a promise about capacity.
        Raises ValueError for a ratio under 1.
        """
        if not ratio >= 1.0:
            raise ValueError(f"budget ratio {ratio}: must be at least 1")
        limit = ratio * self.ms[0]
        inside = next((i for i, ms in enumerate(self.ms) if ms > limit), len(self.ms))
        if inside == len(self.ms):
            return self.tokens[-1]
        low, high = self.tokens[inside - 1], self.tokens[inside]
        span = np.arange(low, high)
        return int(span[np.searchsorted(self.predict_ms(span), limit, side="right") - 1])

    @cached_property
    def version(self) -> str:
        """Content hash, hex: equal tables have equal versions, whoever measured them."""
        return blake2b(self.to_bytes(), digest_size=8).hexdigest()

    def to_bytes(self) -> bytes:
        """The msgpack map stored under `profile:<verifier>:<version>`."""
        tokens, ms = np.array(self.tokens, dtype=_TOKENS), np.array(self.ms, dtype=_MS)
        packed: bytes = msgpack.packb({"v": SCHEMA, "tokens": tokens.tobytes(), "ms": ms.tobytes()})
        return packed

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Reverse of `to_bytes`. Raises UnreadableMessage naming what is wrong."""
        try:
            columns = _unpack(data)
            tokens, ms = np.frombuffer(columns["tokens"], _TOKENS), np.frombuffer(columns["ms"], _MS)
            return cls(tokens=tuple(tokens.tolist()), ms=tuple(ms.tolist()))
        except ValueError as error:
            raise UnreadableMessage(str(error)) from error

    @cached_property
    def _points(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return np.array(self.tokens, dtype=np.float64), np.array(self.ms, dtype=np.float64)

    @cached_property
    def _last_slope(self) -> float:
        return (self.ms[-1] - self.ms[-2]) / (self.tokens[-1] - self.tokens[-2])


def _unpack(data: bytes) -> dict[str, bytes]:
    if len(data) > MAX_BYTES:
        raise ValueError(f"latency table: {len(data)} bytes, the limit is {MAX_BYTES}")
    try:
        fields = msgpack.unpackb(data, raw=False, max_map_len=3, max_array_len=0)
    except Exception as error:  # msgpack raises many kinds, all meaning the same here
        raise ValueError(f"latency table: not msgpack ({error})") from error
    if not isinstance(fields, dict) or set(fields) != {"v", "tokens", "ms"}:
        raise ValueError("latency table: fields must be exactly v, tokens, ms")
    if fields["v"] != SCHEMA or isinstance(fields["v"], bool):
        raise ValueError(f"latency table: schema version {fields['v']!r}, known is {SCHEMA}")
    for name in ("tokens", "ms"):
        if not isinstance(fields[name], bytes):
            raise ValueError(f"latency table: column {name} must be bytes")
    return {"tokens": fields["tokens"], "ms": fields["ms"]}
