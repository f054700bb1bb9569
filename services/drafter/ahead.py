"""Draft-ahead: while a tree is verified, the likeliest outcomes are drafted from (ALGORITHM B.9).

A row's last tree grows: first its unfed leaves are fed, then, as further nodes, the last tokens of the likeliest
outcomes and below each the levels of the tree that will be asked for there. When the next message says that the
context has become one of these outcomes, the KV moves into place and drafting finds the model's answers in the
`Branch`, as far as there are any; whatever else the message says, everything ahead is dropped. A slice is one
forward pass of about the size of a level, and nothing of it is needed: a message always comes first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from services.drafter.branch import Branch
from services.drafter.draft import Draft, unfed_row
from services.drafter.expansion import Expansion, IntArray, Level
from services.drafter.guide import allowed_at
from services.drafter.outcomes import Outcome, Selected, Top, likely_outcomes
from shared.errors import OutOfBlocks
from shared.grammar import Mask
from shared.inference.blocks import BlockPool
from shared.inference.plan import ForwardPlan, build_plan
from shared.tree import ROOT, TokenTree

Int32 = npt.NDArray[np.int32]
Float32 = npt.NDArray[np.float32]
Group = tuple[str, int]  # verifier, ring

MAX_BRANCHES = 4  # of a row
FEW_NODES = 12  # a slice may feed so many, however few rows there are
LEAST_CHANCE = 0.05  # an outcome below is not drafted from
FREE_PART = 4  # of the pool, stays free
MAX_WALKS = 256  # to be learned from with the next slice


class Runner(Protocol):
    """The draft model, as far as it matters here."""

    def top(
        self, plan: ForwardPlan, width: int, allowed: Mapping[int, Mask] | None = None
    ) -> tuple[Int32, Float32]: ...


class Answers:
    """Of one round of drafting: each frontier with what the model said there."""

    def __init__(self) -> None:
        self.levels: list[tuple[Level, IntArray, Float32]] = []

    def grow(self, expansion: Expansion, ids: IntArray, logprobs: Float32) -> None:
        """Note the answers for the expansion's frontier, and grow it."""
        self.levels.append((expansion.frontier, ids, logprobs))
        expansion.grow(ids, logprobs)


class Round:
    """What follows one reply: of ``drafts``, whose trees are as answered, in rows of the round's expansion."""

    def __init__(self, drafts: Sequence[Draft], answers: Answers, width: int, depth: int) -> None:
        self._drafts = drafts
        self._answers = answers
        self._width = width
        self._depth = depth
        self._branches: list[Branch] = []
        self._owners: list[Draft] = []  # of each branch
        self._expansion: Expansion | None = None

    def advance(self, runner: Runner, pool: BlockPool, selected: Selected) -> bool:
        """One slice; whether there is more to do."""
        if self._expansion is None:
            tops = self._tops(runner, pool)
            self._choose(tops, selected)
            self._expansion = Expansion(np.full(len(self._branches), self._depth), self._width)
        else:
            self._grow(runner, self._expansion)
        return self._prepare(pool, self._expansion)

    # -- the outcomes -----------------------------------------------------------------------------------------
    def _tops(self, runner: Runner, pool: BlockPool) -> list[dict[int, Top]]:
        """What may follow each node of each row's tree: the leaves, which nobody needed so far, are fed first."""
        tops: list[dict[int, Top]] = [{} for _ in self._drafts]
        for level, ids, logprobs in self._answers.levels:
            for row, node, line, values in zip(
                level.row.tolist(), level.node.tolist(), ids, logprobs, strict=True
            ):
                tops[row][node] = Top(line, values)
        rows = [row for row, draft in enumerate(self._drafts) if _has_room(draft, pool, 0)]
        rows = [row for row in rows if self._drafts[row].num_fed < len(self._drafts[row].tree)]
        lines = iter(self._feed(runner, [self._drafts[row] for row in rows]))
        for row in rows:
            draft = self._drafts[row]
            for node in range(draft.num_fed, len(draft.tree)):
                tops[row][node] = next(lines)
            draft.num_fed = len(draft.tree)
        return tops

    def _choose(self, tops: list[dict[int, Top]], selected: Selected) -> None:
        """The likeliest outcomes of all rows become branches, about as many as a level has nodes."""
        ranked: list[tuple[float, int, Outcome]] = []
        for row, draft in enumerate(self._drafts):
            if draft.num_fed < len(draft.tree):
                continue  # the pool is nearly full
            best = likely_outcomes(draft.tree, tops[row], selected)[:MAX_BRANCHES]
            ranked += [(-outcome.probability, row, outcome) for outcome in best]
        ranked.sort(key=lambda item: item[:2])
        num_branches = max(len(self._drafts), FEW_NODES // self._width)
        chosen = [item for item in ranked[:num_branches] if -item[0] >= LEAST_CHANCE]
        for _, row, outcome in sorted(chosen, key=lambda item: item[1]):
            draft = self._drafts[row]
            path = _path(draft.tree, outcome.parent)
            tokens = [*draft.tree.tokens[path].tolist(), outcome.token]
            branch = Branch(tokens, [*path, len(draft.tree)], self._width)
            draft.tree = _extended(draft.tree, [outcome.token], [outcome.parent], [outcome.logprob])
            draft.branches.append(branch)
            self._branches.append(branch)
            self._owners.append(draft)

    # -- their trees ------------------------------------------------------------------------------------------
    def _prepare(self, pool: BlockPool, expansion: Expansion) -> bool:
        """Whether there is a level to feed and room for it."""
        return bool(len(expansion.frontier.row)) and all(
            _has_room(draft, pool, self._width * MAX_BRANCHES) for draft in dict.fromkeys(self._owners)
        )

    def _grow(self, runner: Runner, expansion: Expansion) -> None:
        """Feed the frontier (at first the outcomes' last tokens, which stand in the trees already) and grow."""
        frontier = expansion.frontier
        per_branch = [np.flatnonzero(frontier.row == row) for row in range(len(self._branches))]
        if expansion.depth:
            for branch, draft, places in zip(self._branches, self._owners, per_branch, strict=True):
                _append(draft, branch, frontier, places)
        owners = self._unfed_owners()
        answers = self._feed(runner, owners)
        for draft in owners:
            draft.num_fed = len(draft.tree)
        ids = np.stack([answer.ids for answer in answers])
        logprobs = np.stack([answer.logprobs for answer in answers])
        for branch, places in zip(self._branches, per_branch, strict=True):
            if len(places):
                branch.learned(ids[places], logprobs[places])
        expansion.grow(ids, logprobs)

    def _feed(self, runner: Runner, drafts: Sequence[Draft]) -> list[Top]:
        """The answers for the unfed nodes of the drafts' trees, in order."""
        if not drafts:
            return []
        nodes = [(draft, node) for draft in drafts for node in range(draft.num_fed, len(draft.tree))]
        plan = build_plan([unfed_row(draft, draft.tree) for draft in drafts])
        ids, logprobs = runner.top(plan, self._width, allowed_at([(d.guide, d.tree, node) for d, node in nodes]))
        return [Top(line, values) for line, values in zip(ids, logprobs, strict=True)]

    def _unfed_owners(self) -> list[Draft]:
        """Each draft with nodes to feed once, in order."""
        return [draft for draft in dict.fromkeys(self._owners) if draft.num_fed < len(draft.tree)]


class Ahead:
    """The rounds that are drafted ahead of, one for each (verifier, ring), oldest first."""

    def __init__(self, runner: Runner, pool: BlockPool) -> None:
        self._runner = runner
        self._pool = pool
        self._selected = Selected()
        self._rounds: dict[Group, Round] = {}
        self._walks: list[tuple[TokenTree, list[int]]] = []
        self.is_on = False
        """Whether rounds begin; those under way go on."""

    @property
    def has_work(self) -> bool:
        """Whether `advance` has something to do."""
        return bool(self._rounds)

    def begin(self, group: Group, drafts: Sequence[Draft], answers: Answers, width: int, depth: int) -> None:
        """A reply leaves; its trees may be drafted on from. ``answers`` name the drafts by their index."""
        if self.is_on and any(len(draft.tree) for draft in drafts):
            self._rounds[group] = Round(drafts, answers, width, depth)

    def stop(self, group: Group) -> None:
        """A message of this group has come, or will never: its rows change."""
        self._rounds.pop(group, None)

    def stop_all(self) -> None:
        """What was drafted ahead is dropped."""
        self._rounds.clear()

    def heard(self, draft: Draft, base: int, tokens: Sequence[int]) -> None:
        """The context becomes context[:base] + ``tokens``: how the verification of the last tree has ended."""
        if self.is_on and draft.num_candidates and base == len(draft.tokens):
            self._walks.append((draft.tree.prefix(draft.num_candidates), list(tokens)))
            del self._walks[:-MAX_WALKS]

    def advance(self) -> None:
        """One slice of the oldest round."""
        for tree, tokens in self._walks:
            self._selected.learn(tree, tokens)
        self._walks.clear()
        group = next(iter(self._rounds))
        if not self._rounds[group].advance(self._runner, self._pool, self._selected):
            del self._rounds[group]


def _has_room(draft: Draft, pool: BlockPool, more: int) -> bool:
    """Whether the tree and ``more`` nodes have slots, without taking the last free blocks of the pool."""
    if draft.guide is not None and not draft.guide.is_settled:
        return False  # what is allowed may change before the outcome is known
    wanted = draft.slots.length + len(draft.tree) + more
    if wanted > draft.slots.capacity:
        blocks = pool.blocks_for(wanted) - draft.slots.num_blocks
        if pool.num_free - blocks < pool.num_blocks // FREE_PART:
            return False
        try:
            draft.slots.reserve(wanted)
        except OutOfBlocks:
            return False
    return True


def _append(draft: Draft, branch: Branch, frontier: Level, places: IntArray) -> None:
    """The branch's newest level becomes nodes of the row's tree."""
    if not len(places):
        return
    own_parents = frontier.parent[places].tolist()
    parents = [branch.path[-1] if parent == ROOT else branch.nodes[parent] for parent in own_parents]
    first = len(draft.tree)
    branch.nodes.extend(range(first, first + len(places)))
    draft.tree = _extended(draft.tree, frontier.token[places].tolist(), parents, frontier.logprob[places].tolist())


def _extended(
    tree: TokenTree, tokens: Sequence[int], parents: Sequence[int], logprobs: Sequence[float]
) -> TokenTree:
    return TokenTree(
        np.concatenate([tree.tokens, np.array(tokens, np.int32)]),
        np.concatenate([tree.parents, np.array(parents, np.int16)]),
        np.concatenate([tree.logprobs, np.array(logprobs, np.float32)]),
    )


def _path(tree: TokenTree, node: int) -> list[int]:
    """Nodes from the root to ``node``, itself included; none for ROOT."""
    path: list[int] = []
    while node != ROOT:
        path.append(node)
        node = int(tree.parents[node])
    return path[::-1]
