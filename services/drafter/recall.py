"""A level's answers: from what was drafted ahead where it is there, from the model where it is not. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from services.drafter.draft import Draft
from services.drafter.expansion import Level

Int32 = npt.NDArray[np.int32]
IntArray = npt.NDArray[np.integer[Any]]
Float32 = npt.NDArray[np.float32]
Answer = tuple[IntArray, Float32]  # ids and logprobs, [n, k]


class Recall:
    """One round's use of what was drafted ahead: ``levels`` int32 [rows] counts those that needed no forward."""

    def __init__(self, drafts: Sequence[Draft]) -> None:
        self._taken = [(row, draft.taken) for row, draft in enumerate(drafts) if draft.taken is not None]
        self.levels: Int32 = np.zeros(len(drafts), np.int32)

    def answers(self, frontier: Level) -> dict[int, Answer]:
        """By row, for the rows whose whole frontier was asked for before."""
        found = {}
        for row, branch in self._taken:
            answer = branch.recall(frontier.node[frontier.row == row])
            if answer is not None:
                found[row] = answer
                self.levels[row] += 1
        return found


def merged(frontier: Level, known: dict[int, Answer], fed: Answer | None) -> Answer:
    """The answers for the whole frontier: ``known`` by row, and ``fed`` for the others, in their order."""
    if not known:
        assert fed is not None
        return fed
    width = min(answer[0].shape[1] for answer in [*known.values(), *([fed] if fed is not None else [])])
    ids = np.empty((len(frontier.row), width), np.int32)
    logprobs = np.empty((len(frontier.row), width), np.float32)
    is_fed = ~np.isin(frontier.row, list(known))
    if fed is not None:
        ids[is_fed], logprobs[is_fed] = fed[0][:, :width], fed[1][:, :width]
    for row, answer in known.items():
        ids[frontier.row == row], logprobs[frontier.row == row] = answer[0][:, :width], answer[1][:, :width]
    return ids, logprobs
