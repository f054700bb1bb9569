"""How a verification may end, before it has: which outcome of a candidate tree is worth drafting from. Pure.

A verification walks down the part of the tree that was selected and ends with one token more: either a child that
was drafted but not selected, or one that was not drafted at all. With f the path probability of a node, q the
draft's own probability of a child and s(v) the probability that v was selected (1 for the root, 0 for what was not
drafted), the walk ends with child t of u with probability f(u) q(t|u) (s(u) - s(t)): selected sets are cut at a
path probability, so a selected child has a selected parent. s is learned from how earlier walks ended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from shared.tree import ROOT, TokenTree

Int32 = npt.NDArray[np.int32]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

BIN_WIDTH = 0.5  # of -log f
NUM_BINS = 16
MEMORY = 256.0  # labels of a bin before all of its count half


class Top(NamedTuple):
    """The likeliest next tokens of a node, ``ids`` int32 [k], and their ``logprobs`` float32 [k]."""

    ids: npt.NDArray[np.integer[Any]]
    logprobs: Float32


@dataclass(frozen=True, slots=True)
class Outcome:
    """The walk ends with ``token`` below node ``parent``; ``logprob`` is log f of the token, as a node."""

    probability: float
    parent: int
    token: int
    logprob: float


class Selected:
    """How likely a node of some path probability is selected, counted by bins of -log f; a half to begin with."""

    def __init__(self) -> None:
        self._selected: Float64 = np.full(NUM_BINS, 0.5)
        self._seen: Float64 = np.ones(NUM_BINS)

    def learn(self, tree: TokenTree, tokens: Sequence[int]) -> None:
        """After ``tree`` the context has grown by ``tokens``: all but the last were selected, the last was not."""
        children, node = tree.children(), ROOT
        for index, token in enumerate(tokens):
            child = children.get((node, token))
            if child is None:
                return
            self._count(float(tree.logprobs[child]), is_selected=index < len(tokens) - 1)
            node = child

    def of(self, logprobs: Float32) -> Float64:
        """float64 [n] for path log-probabilities [n]; never rising as they fall."""
        rates: Float64 = np.minimum.accumulate(self._selected / self._seen)
        bins = np.clip(-logprobs / BIN_WIDTH, 0, NUM_BINS - 1).astype(np.int64)
        chances: Float64 = rates[bins]
        return chances

    def _count(self, logprob: float, *, is_selected: bool) -> None:
        place = min(NUM_BINS - 1, max(0, int(-logprob / BIN_WIDTH)))
        if self._seen[place] >= MEMORY:
            self._selected[place] /= 2
            self._seen[place] /= 2
        self._selected[place] += is_selected
        self._seen[place] += 1


def likely_outcomes(tree: TokenTree, tops: Mapping[int, Top], selected: Selected) -> list[Outcome]:
    """The outcomes that ``tops``, by node of ``tree`` (ROOT too), lets one see, likeliest first."""
    children = tree.children()
    chances = selected.of(tree.logprobs).tolist()
    logs = tree.logprobs.tolist()
    outcomes = []
    for node, top in tops.items():
        log, chance = (0.0, 1.0) if node == ROOT else (logs[node], chances[node])
        for token, logprob in zip(top.ids.tolist(), top.logprobs.tolist(), strict=True):
            child = children.get((node, token))
            ends = chance - (0.0 if child is None else chances[child])
            if ends > 0.0 and np.isfinite(logprob):
                path = log + logprob
                outcomes.append(Outcome(float(np.exp(path)) * ends, node, token, path))
    return sorted(outcomes, key=lambda outcome: -outcome.probability)
