"""What one step's walks say about the draft: labels, and expected against realised accepted tokens. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.verifier.acceptance import Walk
from shared.calibration import Calibration
from shared.labels import LabelCounts
from shared.tree import EMPTY, Forest

NOT_DRAWN = -1
CONFIDENT = 0.9


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lesson:
    """``num_expected`` and ``num_accepted`` count tokens over all trees of a step: Σ f(v), and what came true.

    Of the judged edges ``num_confident`` have a calibrated probability of CONFIDENT or more.
    """

    counts: LabelCounts
    num_trees: int
    num_expected_raw: float
    num_expected: float
    num_accepted: int
    num_confident: int
    num_confident_rejected: int


def learn(walks: Sequence[tuple[int, Walk]], calibration: Calibration) -> Lesson:
    """From finished walks with their temperature buckets. Which edges are labels: see `shared.labels`.

    Only walks that `is_free`: a draw with a mask, bias or penalties says nothing about what other requests would
    accept.
    """
    walks = [(bucket, walk) for bucket, walk in walks if walk.is_free and len(walk.tree)]
    offsets = np.cumsum([0, *(len(walk.tree) for _, walk in walks)])
    buckets = np.array([bucket for bucket, _ in walks], np.uint8)
    tokens = np.concatenate([EMPTY.tokens, *(walk.tree.tokens for _, walk in walks)])
    logprobs = np.concatenate([EMPTY.logprobs, *(walk.tree.logprobs for _, walk in walks)])
    forest = Forest.of(offsets, np.concatenate([EMPTY.parents, *(walk.tree.parents for _, walk in walks)]))
    drawn = _drawn_at_parent(forest, offsets.tolist(), [walk for _, walk in walks])
    judged = np.flatnonzero(drawn != NOT_DRAWN)
    told = (forest.edges(logprobs)[judged], forest.depths[judged], forest.each_node(buckets)[judged])
    accepted = (drawn == tokens)[judged]
    confident = calibration.edges(*told) >= np.log(CONFIDENT)
    return Lesson(
        counts=LabelCounts.of(told[2], told[1], told[0], accepted),
        num_trees=len(walks),
        num_expected_raw=_total(np.minimum(logprobs, np.float32(0.0))),
        num_expected=_total(calibration.paths(forest, logprobs, buckets)),
        num_accepted=sum(len(walk.path) for _, walk in walks),
        num_confident=int(confident.sum()),
        num_confident_rejected=int((confident & ~accepted).sum()),
    )


def _total(logprobs: npt.NDArray[np.float32]) -> float:
    """Σ f(v); a node below an impossible one may be NaN and is worth nothing."""
    return float(np.nansum(np.exp(logprobs.astype(np.float64))))


def _drawn_at_parent(forest: Forest, starts: list[int], walks: Sequence[Walk]) -> npt.NDArray[np.int64]:
    """int64 [nodes]: the token the target drew at each node's parent, NOT_DRAWN where it drew none."""
    num_nodes = len(forest.parents)
    drawn = np.full(num_nodes + 1, NOT_DRAWN)
    reached = [start + node for start, walk in zip(starts, walks, strict=False) for node in walk.path]
    drawn[reached] = [token for walk in walks for token in walk.tokens[1:]]
    at_root = np.array([walk.tokens[0] for walk in walks], np.int64)
    return np.where(forest.parents == num_nodes, forest.each_node(at_root), drawn[forest.parents])
