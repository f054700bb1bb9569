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

Int64 = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

BIN_WIDTH = 0.5  # of -log f
NUM_BINS = 16
FORGETTING = 0.02
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


class Curve:
    """How often nodes were selected, by a bin that selection cuts at some place; a half to begin with."""

    def __init__(self) -> None:
        self._selected: Float64 = np.full(NUM_BINS, 0.5)
        self._seen: Float64 = np.ones(NUM_BINS)
        self.loss = 0.0
        """Of recent predictions, log loss with forgetting."""

    @property
    def rates(self) -> Float64:
        """float64 [NUM_BINS], never rising."""
        rates: Float64 = np.minimum.accumulate(self._selected / self._seen)
        return rates

    def count(self, place: int, *, is_selected: bool) -> None:
        """One label, which the curve first is to predict."""
        rate = float(np.clip(self.rates[place], 0.01, 0.99))
        self.loss += FORGETTING * (-np.log(rate if is_selected else 1.0 - rate) - self.loss)
        if self._seen[place] >= MEMORY:
            self._selected[place] /= 2
            self._seen[place] /= 2
        self._selected[place] += is_selected
        self._seen[place] += 1


class Selected:
    """How likely a node is selected: by its path probability, or by its rank in the tree, as has fitted better.

    A budget over many rows cuts all trees at about one path probability, one row's share cuts its own at a rank.
    """

    def __init__(self) -> None:
        self._curves = Curve(), Curve()

    def learn(self, tree: TokenTree, tokens: Sequence[int]) -> None:
        """After ``tree`` the context has grown by ``tokens``: all but the last were selected, the last was not."""
        children, node, bins = tree.children(), ROOT, _bins(tree.logprobs)
        for index, token in enumerate(tokens):
            child = children.get((node, token))
            if child is None:
                return
            for curve, places in zip(self._curves, bins, strict=True):
                curve.count(int(places[child]), is_selected=index < len(tokens) - 1)
            node = child

    def of(self, logprobs: Float32) -> Float64:
        """float64 [n] for the path log-probabilities [n] of a tree; never rising as they fall."""
        curve, places = min(zip(self._curves, _bins(logprobs), strict=True), key=lambda pair: pair[0].loss)
        chances: Float64 = curve.rates[places]
        return chances


def _bins(logprobs: Float32) -> tuple[Int64, Int64]:
    """int64 [n] each: of -log f, and of the rank by f, from 0."""
    ranks = np.empty(len(logprobs), np.int64)
    ranks[np.argsort(-logprobs, kind="stable")] = np.arange(len(logprobs))
    by_value = np.clip(-logprobs / BIN_WIDTH, 0, NUM_BINS - 1).astype(np.int64)
    return by_value, np.minimum(ranks, NUM_BINS - 1)


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
