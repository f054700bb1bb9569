"""Candidate trees by beam search, all rows at once (arXiv 2501.12162, algorithm 2, step 1).

Level 1 keeps the ``width`` best children of each root, every later level the ``width`` best, by path
probability, among the children of the level before. Pure numpy: the forward passes happen elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.tree import ROOT, TokenTree

IntArray = npt.NDArray[np.integer[Any]]
BoolArray = npt.NDArray[np.bool_]
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
        # Each row's nodes so far, in level order; trees are views, for what is written is not written again.
        room = (len(max_depth), width * int(self._max_depth.max(initial=0)))
        self._tokens, self._parents = np.empty(room, np.int32), np.empty(room, np.int16)
        self._logprobs = np.empty(room, np.float32)
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
        parents, num_children = self.frontier, tokens.shape[1]
        firsts = _firsts(parents.row)
        counts = np.append(firsts[1:], len(parents.row)) - firsts
        line = np.repeat(np.arange(len(firsts)), counts)
        room = (len(firsts), int(counts.max(initial=0)), num_children)
        paths = np.full(room, -np.inf, np.result_type(parents.logprob, logprobs))
        paths[line, np.arange(len(line)) - firsts[line]] = parents.logprob[:, None] + logprobs
        paths = paths.reshape(len(firsts), -1) if len(firsts) else paths.reshape(0, 0)
        # Stable: equal paths keep the order of their parents.
        best = np.argsort(-paths, axis=1, kind="stable")[:, : self._width]
        values = paths[np.arange(len(firsts))[:, None], best]
        is_in = np.isfinite(values)
        parent, child = np.divmod(best, num_children)
        parent, child = (firsts[:, None] + parent)[is_in], child[is_in]
        chosen = values[is_in].astype(np.float32)
        self._add(parents.row[firsts], is_in, tokens[parent, child], parents.node[parent], chosen)

    def grow_chosen(self, rows: IntArray, tokens: IntArray, parents: IntArray, logprobs: Float32) -> None:
        """Adds a level that was chosen elsewhere, by the same rule.

        ``rows`` [n] ascend and contain those of the frontier; the columns [n, width] are their best children by
        falling path probability: tokens, indices of the parents within the row's level before, path
        log-probabilities, which are not finite where there are no more.
        """
        firsts = np.searchsorted(self.frontier.row, rows)
        is_in = np.isin(rows, self.frontier.row)[:, None] & np.isfinite(logprobs)
        nodes = self.frontier.node[(firsts[:, None] + parents)[is_in]]
        self._add(rows, is_in, tokens[is_in], nodes, logprobs[is_in])

    def _add(
        self, rows: IntArray, is_in: BoolArray, tokens: IntArray, parents: IntArray, logprobs: Float32
    ) -> None:
        """``is_in`` [rows, k] marks each row's new nodes, its leading ones; the columns list them [n]."""
        line, rank = np.nonzero(is_in)
        level = Level(rows[line], tokens, parents, self._sizes[rows[line]] + rank, logprobs)
        self._levels.append(level)
        self._tokens[level.row, level.node] = tokens
        self._parents[level.row, level.node] = parents
        self._logprobs[level.row, level.node] = logprobs
        self._sizes[rows] += np.count_nonzero(is_in, axis=1)
        goes_on = self._max_depth[level.row] > self.depth
        self.frontier = level if goes_on.all() else _where(level, goes_on)

    def value(self, weights: Float32) -> float:
        """Sum over rows of weight x the best path probability in the frontier: what another level may earn."""
        best = _firsts(self.frontier.row)
        return float((weights[self.frontier.row[best]] * np.exp(self.frontier.logprob[best])).sum())

    def trees(self) -> list[TokenTree]:
        """One candidate tree per row, in level order; empty for rows of depth 0."""
        return [
            TokenTree.checked(tokens[:size], parents[:size], logprobs[:size])
            for tokens, parents, logprobs, size in zip(
                self._tokens, self._parents, self._logprobs, self._sizes.tolist(), strict=True
            )
        ]


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


def _firsts(rows: IntArray) -> IntArray:
    """Index of the first of each run of equal rows."""
    firsts: IntArray = np.flatnonzero(np.append(True, rows[1:] != rows[:-1])[: len(rows)])
    return firsts


def _where(level: Level, keep: npt.NDArray[np.bool_]) -> Level:
    return Level(level.row[keep], level.token[keep], level.parent[keep], level.node[keep], level.logprob[keep])
