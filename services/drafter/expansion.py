"""Candidate trees by beam search, all rows at once (arXiv 2501.12162, algorithm 2, step 1).

Level 1 keeps the ``width`` best children of each root, every later level the ``width`` best, by path
probability, among the children of the level before. Pure numpy: the forward passes happen elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.tree import ROOT, TokenTree

IntArray = npt.NDArray[np.integer[Any]]
Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Level:
    """One level's nodes, sorted by row, within a row by falling path probability; all columns [n]."""

    row: IntArray
    token: IntArray
    parent: IntArray  # index of the parent within its row's tree, ROOT at level 1
    node: IntArray  # index within its row's tree
    logprob: Float32  # path log-probability


class Expansion:
    """The growing candidate trees of ``num_rows`` rows, each up to its own depth in ``max_depth`` [num_rows]."""

    def __init__(self, max_depth: IntArray, width: int) -> None:
        self._max_depth = np.asarray(max_depth)
        self._width = width
        self._sizes = np.zeros(len(max_depth), np.int64)
        self._levels: list[Level] = []
        roots = np.flatnonzero(self._max_depth > 0)
        self.frontier = Level(
            row=roots,
            token=np.full(len(roots), -1),
            parent=np.full(len(roots), ROOT),
            node=np.full(len(roots), ROOT),
            logprob=np.zeros(len(roots), np.float32),
        )

    @property
    def depth(self) -> int:
        """Levels grown so far."""
        return len(self._levels)

    @property
    def newest(self) -> Level:
        """The level grown last, with the rows that go no deeper. Raises IndexError before the first."""
        return self._levels[-1]

    def grow(self, tokens: IntArray, logprobs: Float32) -> None:
        """Adds a level: ``tokens`` and ``logprobs`` [frontier, k] are each frontier node's likeliest children.

        k is at least the width, or the whole vocabulary. The new frontier is what may be fed next: rows that
        reached their depth leave it.
        """
        parents = self.frontier
        paths = (parents.logprob[:, None] + logprobs).ravel()
        rows = np.repeat(parents.row, tokens.shape[1])
        order = np.lexsort((-paths, rows))  # stable: equal paths keep the order of their parents
        order = order[np.isfinite(paths[order])]
        rank = _rank_within(rows[order])
        best = order[rank < self._width]
        nodes = np.repeat(parents.node, tokens.shape[1])[best]
        self._add(rows[best], tokens.ravel()[best], nodes, paths[best].astype(np.float32))

    def grow_chosen(self, rows: IntArray, tokens: IntArray, parents: IntArray, logprobs: Float32) -> None:
        """Adds a level that was chosen elsewhere, by the same rule.

        ``rows`` [n] ascend and contain those of the frontier; the columns [n, width] are their best children by
        falling path probability: tokens, indices of the parents within the row's level before, path
        log-probabilities, which are not finite where there are no more.
        """
        firsts = np.searchsorted(self.frontier.row, rows)
        is_in = np.isin(rows, self.frontier.row)[:, None] & np.isfinite(logprobs)
        level_rows = np.repeat(rows, tokens.shape[1])[is_in.ravel()]
        nodes = self.frontier.node[(firsts[:, None] + parents)[is_in]]
        self._add(level_rows, tokens[is_in], nodes, logprobs[is_in])

    def _add(self, rows: IntArray, tokens: IntArray, parents: IntArray, logprobs: Float32) -> None:
        level = Level(rows, tokens, parents, self._sizes[rows] + _rank_within(rows), logprobs)
        self._levels.append(level)
        self._sizes += np.bincount(rows, minlength=len(self._sizes))
        self.frontier = _where(level, self._max_depth[rows] > self.depth)

    def value(self, weights: Float32) -> float:
        """Sum over rows of weight x the best path probability in the frontier: what another level may earn."""
        if not len(self.frontier.row):
            return 0.0
        is_best = _rank_within(self.frontier.row) == 0
        best = np.exp(self.frontier.logprob[is_best])
        return float((weights[self.frontier.row[is_best]] * best).sum())

    def trees(self) -> list[TokenTree]:
        """One candidate tree per row, in level order; empty for rows of depth 0."""
        rows = np.concatenate([level.row for level in self._levels] or [np.empty(0, np.int64)])
        order = np.argsort(rows, kind="stable")
        tokens = self._column("token", order).astype(np.int32)
        parents = self._column("parent", order).astype(np.int16)
        logprobs = self._column("logprob", order).astype(np.float32)
        cuts = np.concatenate([[0], np.cumsum(self._sizes)])
        return [TokenTree(tokens[a:b], parents[a:b], logprobs[a:b]) for a, b in pairwise(cuts.tolist())]

    def _column(self, name: str, order: IntArray) -> npt.NDArray[Any]:
        parts = [getattr(level, name) for level in self._levels] or [np.empty(0)]
        column: npt.NDArray[Any] = np.concatenate(parts)[order]
        return column


def fit_width_depth(num_rows: int, width: int, depth: int, max_tokens: int) -> tuple[int, int]:
    """The width and depth a drafter that feeds at most ``max_tokens`` per level affords for ``num_rows`` rows.

    Width gives way first, then depth: with width 1 still too many tokens per level, the levels after the
    first are dropped, for the first needs no tree node to be fed.
    """
    if num_rows == 0:
        return width, depth
    affordable = max(1, min(width, max_tokens // num_rows))
    if num_rows > max_tokens:
        depth = min(depth, 1)
    return affordable, depth


def _rank_within(rows: IntArray) -> IntArray:
    """Index of each element within its run of equal rows."""
    index = np.arange(len(rows))
    starts = np.flatnonzero(np.diff(rows, prepend=-1))
    run: IntArray = index - np.repeat(index[starts], np.diff(starts, append=len(rows)))
    return run


def _where(level: Level, keep: npt.NDArray[np.bool_]) -> Level:
    return Level(level.row[keep], level.token[keep], level.parent[keep], level.node[keep], level.logprob[keep])
