"""The tree of one outcome, drafted before it is known. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from services.drafter.expansion import Expansion, Level
from shared.tree import ROOT

IntArray = npt.NDArray[np.integer[Any]]
Float32 = npt.NDArray[np.float32]


@dataclass(slots=True, eq=False)
class Branch:
    """What the draft model says from ``context + tokens`` on, as far as it was asked, for trees of ``width``.

    ``nodes`` are the branch's own fed nodes by level: where in the row's tree each stands, so where its KV is;
    ``path`` are those of ``tokens``. ``ids`` and ``logprobs`` [1 + fed, k] are what `Runner.top` said after the
    last of ``tokens``, then after each fed node. Drafting from there asks for exactly these again, so whoever
    drafts takes them from here: the tree is the same by construction.
    """

    tokens: list[int]
    path: list[int]
    width: int
    nodes: list[int] = field(default_factory=list)
    ids: IntArray = field(default_factory=lambda: np.empty((0, 0), np.int32))
    logprobs: Float32 = field(default_factory=lambda: np.empty((0, 0), np.float32))

    @property
    def num_fed(self) -> int:
        """Own nodes whose KV is there."""
        return len(self.nodes)

    def learned(self, ids: IntArray, logprobs: Float32) -> None:
        """The model's answer for the last token, or for a level of own nodes: [n, k]."""
        if not len(self.ids):
            self.ids, self.logprobs = ids, logprobs
        else:
            self.ids = np.concatenate([self.ids, ids])
            self.logprobs = np.concatenate([self.logprobs, logprobs])

    def recall(self, frontier: IntArray) -> tuple[IntArray, Float32] | None:
        """ids and logprobs [n, width] for own nodes [n], or ROOT; None unless the answers for all are here."""
        places = frontier + 1
        if not len(places) or int(places.max()) >= len(self.ids):
            return None
        return self.ids[places, : self.width], self.logprobs[places, : self.width]

    def narrowed(self, width: int) -> tuple[Branch, IntArray]:
        """As it would be for a smaller ``width``, as far as it is the same; and which own nodes those are."""
        wide, narrow = self._tree(), Expansion(np.array([len(self.ids)]), width)
        children, place = wide.children(), {ROOT: ROOT}
        kept: list[int] = []
        while True:
            level = narrow.frontier
            known = self._find(level, children, place)
            if known is None:
                break
            kept += [node for node in known if node != ROOT]
            rows = np.array(known) + 1
            narrow.grow(self.ids[rows, :width], self.logprobs[rows, :width])
        order = np.array([ROOT, *kept]) + 1
        branch = Branch(
            self.tokens,
            self.path,
            width,
            [self.nodes[node] for node in kept],
            self.ids[order[: len(self.ids)]],
            self.logprobs[order[: len(self.ids)]],
        )
        return branch, np.array(kept, np.int64)

    def _tree(self) -> Any:
        """The branch's own tree with all its nodes."""
        wide = Expansion(np.array([len(self.ids)]), self.width)
        while len(wide.frontier.row) and (top := self.recall(wide.frontier.node)) is not None:
            wide.grow(*top)
        return wide.trees()[0]

    def _find(self, level: Level, children: dict[tuple[int, int], int], place: dict[int, int]) -> list[int] | None:
        """Own nodes of a narrower tree's level; None when one is not here with its answer."""
        found = []
        for node, parent, token in zip(
            level.node.tolist(), level.parent.tolist(), level.token.tolist(), strict=True
        ):
            own = ROOT if node == ROOT else children.get((place[parent], token), len(self.ids))
            if own + 1 >= len(self.ids):
                return None
            place[node] = own
            found.append(own)
        return found or None
