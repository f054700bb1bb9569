"""What verification teaches about the draft: labelled edges, counted. Pure numpy.

An edge parent → child of a candidate tree is *judged* when the target drew a token at the parent, that is when the
parent is the root or an accepted node; its label is whether that token is the child's. Only judged edges count:

- The path probability f(v) is the product of P(child accepted | parent accepted) along the path (eq. 7), and the
  judged edges are exactly the draws under that condition. Which edges are judged depends on draws further up only,
  never on the draw that labels them, so their acceptance rate estimates the factor without bias.
- An edge below a rejected node has the context of a path the target did not take: a draw there, had there been
  one, would follow P(child | another context), which the product does not contain.

Draws after a stop count: they are the target's own, although nobody is given the tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from shared.errors import UnreadableMessage

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Integers = NDArray[np.integer[Any]]

NUM_BUCKETS = 9  # temperature: 0 is greedy, then steps of a quarter up to 8
MAX_CALIBRATED_DEPTH = 8  # deeper edges count as this deep
NUM_BINS = 32
MAX_LOGIT = 8.0  # raw logits beyond ±8 fall into the outermost bins
BIN_CENTERS: Float64 = (np.arange(NUM_BINS, dtype=np.float64) + 0.5) * (2 * MAX_LOGIT / NUM_BINS) - MAX_LOGIT

SHAPE = (NUM_BUCKETS, MAX_CALIBRATED_DEPTH, NUM_BINS)
_PACKED = np.dtype("<f4")  # halving is exact, and so are sums below 2**24
_PACKED_SHAPE = (2, MAX_CALIBRATED_DEPTH, NUM_BINS)
PACKED_BYTES = _PACKED.itemsize * int(np.prod(_PACKED_SHAPE))


@dataclass(frozen=True, slots=True, eq=False)
class LabelCounts:
    """``labels`` and ``accepted``: float64 [bucket, depth - 1, bin], judged edges and the accepted ones of them.

    Counts add. They are no whole numbers once old ones have been halved.
    """

    labels: Float64
    accepted: Float64

    @classmethod
    def none(cls) -> Self:
        """No labels yet."""
        return cls(np.zeros(SHAPE), np.zeros(SHAPE))

    @classmethod
    def of(cls, buckets: Integers, depths: Integers, edge_logprobs: Float32, accepted: NDArray[np.bool_]) -> Self:
        """One label per entry of the four columns [labels]; depths count from 1."""
        rows = np.minimum(buckets, NUM_BUCKETS - 1).astype(np.int64) * MAX_CALIBRATED_DEPTH
        cells = (rows + np.minimum(depths, MAX_CALIBRATED_DEPTH) - 1) * NUM_BINS + bins(edge_logprobs)
        size = int(np.prod(SHAPE))
        return cls(
            np.bincount(cells, minlength=size).reshape(SHAPE).astype(np.float64),
            np.bincount(cells[accepted], minlength=size).reshape(SHAPE).astype(np.float64),
        )

    @classmethod
    def unpack(cls, packed: Mapping[int, bytes]) -> Self:
        """Reverse of `pack`. Raises UnreadableMessage, naming the bucket, for anything `pack` cannot have made."""
        counts = cls.none()
        for bucket, data in packed.items():
            if not 0 <= bucket < NUM_BUCKETS:
                raise UnreadableMessage(f"label counts: bucket {bucket} is not in 0..{NUM_BUCKETS - 1}")
            if len(data) != PACKED_BYTES:
                raise UnreadableMessage(f"label counts: bucket {bucket} has not {PACKED_BYTES} bytes")
            labels, accepted = np.frombuffer(data, _PACKED).reshape(_PACKED_SHAPE)
            if not (np.isfinite(labels).all() and (accepted >= 0).all() and (accepted <= labels).all()):
                raise UnreadableMessage(f"label counts: bucket {bucket} holds impossible counts")
            counts.labels[bucket], counts.accepted[bucket] = labels, accepted
        return counts

    def pack(self) -> dict[int, bytes]:
        """Each bucket that has labels: its labels, then its accepted ones, as little-endian float32."""
        found = np.flatnonzero(self.labels.any(axis=(1, 2))).tolist()
        columns = np.stack([self.labels, self.accepted], axis=1).astype(_PACKED)  # [bucket, 2, depth, bin]
        return {bucket: columns[bucket].tobytes() for bucket in found}

    def __add__(self, other: LabelCounts) -> LabelCounts:
        return LabelCounts(self.labels + other.labels, self.accepted + other.accepted)

    def __sub__(self, earlier: LabelCounts) -> LabelCounts:
        """What was added since ``earlier``, if nothing was halved in between."""
        return LabelCounts(self.labels - earlier.labels, self.accepted - earlier.accepted)

    @property
    def num_labels(self) -> float:
        return float(self.labels.sum())

    @property
    def by_depth(self) -> tuple[list[float], list[float]]:
        """Labels and accepted ones of each depth, from 1 to MAX_CALIBRATED_DEPTH."""
        return self.labels.sum((0, 2)).tolist(), self.accepted.sum((0, 2)).tolist()


def bins(edge_logprobs: Float32) -> NDArray[np.int64]:
    """int64 [edges]: the bin of each edge's raw logit."""
    places = (edge_logits(edge_logprobs) + MAX_LOGIT) * (NUM_BINS / (2 * MAX_LOGIT))
    return np.clip(places, 0, NUM_BINS - 1).astype(np.int64)


def edge_logits(edge_logprobs: NDArray[np.floating[Any]]) -> Float64:
    """float64 [edges]: ln(q / (1 - q)) of ln q, within ±MAX_LOGIT. A positive ln q counts as 0, NaN as −∞."""
    known = np.nan_to_num(edge_logprobs.astype(np.float64), nan=-np.inf)
    logprobs = np.clip(known, -2 * MAX_LOGIT, -np.exp(-2 * MAX_LOGIT))
    logits: Float64 = np.clip(logprobs - np.log(-np.expm1(logprobs)), -MAX_LOGIT, MAX_LOGIT)
    return logits
