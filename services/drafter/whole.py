"""A round of drafting that the device runs by itself, from the contexts to the last level (ALGORITHM B.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from services.drafter.draft import Draft, context_row
from services.drafter.expansion import Expansion
from shared.inference.plan import ForwardPlan, build_plan
from shared.inference.rounds import BeamRow, Beams
from shared.tree import TokenTree

IntArray = npt.NDArray[np.integer[Any]]
Float32 = npt.NDArray[np.float32]


class SearchBeams(Protocol):
    """The draft model, as far as it matters here."""

    def __call__(self, plan: ForwardPlan, rows: Sequence[BeamRow], *, width: int, depth: int) -> Beams:
        """`shared.inference.runner.ModelRunner.beams`."""


def can_run_whole(drafts: Sequence[Draft], width: int, vocab_size: int) -> bool:
    """Whether the device can run these drafts' round by itself.

    Not where a grammar says what may follow, for it has to be asked for each node; nor where a branch drafted
    ahead has come true, whose answers are on the host.
    """
    return width <= vocab_size and all(draft.guide is None and draft.taken is None for draft in drafts)


def run_whole(
    search: SearchBeams,
    drafts: Sequence[Draft],
    depths: IntArray,
    expansion: Expansion,
    width: int,
    *,
    weights: Float32,
    stop_value: float,
) -> None:
    """Grows ``expansion``, of ``depths`` [rows], as level by level; the drafts have room for it.

    Whether the next level is worth its time is asked afterwards: it has been computed, and is dropped all the
    same, so that the trees are those of drafting level by level.
    """
    rows = expansion.frontier.row
    depth = int(depths[rows].max(initial=0))
    if depth == 0:
        return
    plan_rows, beam_rows = [], []
    for row in rows.tolist():
        draft, size = drafts[row], len(drafts[row].tokens)
        draft.slots.length = min(draft.slots.length, size - 1)  # the last token's logits are needed again
        plan_rows.append(context_row(draft, size, last_logits=True))
        nodes = draft.slots.slots(size, size + (int(depths[row]) - 1) * width)
        beam_rows.append(BeamRow(draft.slots.slots(0, size), nodes))
    beams = search(build_plan(plan_rows), beam_rows, width=width, depth=depth)
    for ids, parents, logprobs in zip(beams.ids, beams.parents, beams.logprobs, strict=True):
        expansion.grow_chosen(rows, ids, parents, logprobs)
        if not len(expansion.frontier.row) or expansion.value(weights) < stop_value:
            break
    trees = expansion.trees()
    for row in rows.tolist():
        drafts[row].slots.length = len(drafts[row].tokens)
        drafts[row].num_fed = width * min(int(depths[row]) - 1, _full_levels(trees[row], width))


def _full_levels(tree: TokenTree, width: int) -> int:
    """Leading levels with all ``width`` nodes: where one has fewer, slots and nodes below no longer agree."""
    sizes = np.bincount(tree.depths(), minlength=1)[1:]
    return int(np.cumprod(sizes == width).sum())
