"""The simulated draft model: the real beam search (services.drafter.expansion) over drawn probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.simulator.acceptance import WIDTH, Text
from bench.simulator.request import SimRequest
from services.drafter.expansion import Expansion, Level
from shared.tree import TokenTree

_TOKENS = np.arange(WIDTH)


@dataclass(frozen=True, slots=True, eq=False)
class Drafted:
    """Candidate trees, for each node whether the target would accept its whole path, and levels grown."""

    trees: list[TokenTree]
    accepted: npt.NDArray[np.bool_]  # [nodes of all trees]
    num_levels: int


class SimDrafter:
    """Drafts from a Text. A token is the rank of a child among the draft's choices."""

    def __init__(self, text: Text) -> None:
        self._text = text

    def draft(
        self,
        requests: Sequence[SimRequest],
        depths: npt.NDArray[np.int64],
        width: int,
        weights: npt.NDArray[np.float32],
        stop_value: float,
    ) -> Drafted:
        """Trees of at most ``depths`` [requests] levels; stops, as the drafter does, when a level earns little."""
        width = min(width, WIDTH)
        expansion = Expansion(depths, width)
        indices = np.array([request.index for request in requests])
        outputs = np.array([request.num_output for request in requests])
        accepted = np.ones(len(expansion.frontier.row), np.bool_)
        levels: list[tuple[Level, npt.NDArray[np.bool_]]] = []
        while len(expansion.frontier.row) and (
            not levels or stop_value <= 0.0 or expansion.value(weights) >= stop_value
        ):
            parents = expansion.frontier
            rows = indices[parents.row]
            positions = outputs[parents.row] + expansion.depth
            expansion.grow(
                np.broadcast_to(_TOKENS, (len(rows), WIDTH)),
                self._claims(rows, positions, accepted, expansion.depth),
            )
            level = expansion.newest
            parent = _places(parents, level)
            choice = self._text.choice[rows[parent], positions[parent]]
            is_accepted = accepted[parent] & (level.token == choice)
            levels.append((level, is_accepted))
            accepted = is_accepted[depths[level.row] > expansion.depth]
        return Drafted(expansion.trees(), _in_tree_order(levels), expansion.depth)

    def _claims(
        self,
        requests: npt.NDArray[np.int64],
        positions: npt.NDArray[np.int64],
        accepted: npt.NDArray[np.bool_],
        depth: int,
    ) -> npt.NDArray[np.float32]:
        """[nodes, WIDTH] log-probabilities of each node's children."""
        stray = self._text.stray
        mixed = (requests * 7919 + positions * 31 + np.arange(len(requests)) * 131 + depth) % len(stray)
        return np.where(accepted[:, None], self._text.claimed[requests, positions], stray[mixed])


def _places(parents: Level, children: Level) -> npt.NDArray[np.int64]:
    """Index in ``parents`` of each child's parent."""
    stride = int(max(parents.node.max(initial=0), children.parent.max(initial=0))) + 2
    return np.searchsorted(parents.row * stride + parents.node + 1, children.row * stride + children.parent + 1)


def _in_tree_order(levels: Sequence[tuple[Level, npt.NDArray[np.bool_]]]) -> npt.NDArray[np.bool_]:
    """Row after row, each in level order, as `Expansion.trees` has the nodes."""
    if not levels:
        return np.empty(0, np.bool_)
    rows = np.concatenate([level.row for level, _ in levels])
    return np.concatenate([flags for _, flags in levels])[np.argsort(rows, kind="stable")]
