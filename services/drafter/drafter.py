"""Candidate trees for many requests of many verifiers: what is remembered, and one round of drafting.

The state is a cache of hints: any row may be dropped at any time and is rebuilt from the tokens the verifier
sends when it is told NEED_CONTEXT.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from services.drafter.ahead import Ahead, Answers
from services.drafter.draft import Draft, context_row, unfed_row
from services.drafter.expansion import Expansion, fit_width_depth
from services.drafter.guide import Guide, paths
from services.drafter.level_time import LevelTime
from services.drafter.recall import Recall, merged
from services.drafter.whole import SearchBeams, can_run_whole, run_whole
from shared.errors import OutOfBlocks
from shared.grammar import Compile, Mask, no_grammars
from shared.inference.blocks import BlockPool, SequenceSlots
from shared.inference.plan import ForwardPlan, build_plan
from shared.messages import NEED_CONTEXT, NO_ROOM, DraftRequest
from shared.tree import EMPTY, TokenTree

LOW_PART = 8  # of the pool: with fewer blocks free nothing is kept that was drafted ahead

Int32 = npt.NDArray[np.int32]
Float32 = npt.NDArray[np.float32]
Key = tuple[str, int, bytes, int]  # verifier, ring, request, epoch
Group = tuple[str, int]  # verifier, ring


class Cache(Protocol):
    """Where the KV lives."""

    def move(self, source: Int32, destination: Int32) -> None:
        """Copy KV between slots; ranges may overlap."""


class Runner(Protocol):
    """The draft model, as far as the drafter sees it."""

    vocab_size: int

    @property
    def cache(self) -> Cache: ...

    def top(
        self, plan: ForwardPlan, width: int, allowed: Mapping[int, Mask] | None = None
    ) -> tuple[Int32, Float32]:
        """The likeliest ``allowed`` next tokens of each wanted row, and their log-probabilities, best first.

        What is not allowed has log-probability -inf.
        """


@dataclass(frozen=True, slots=True)
class Drafted:
    """One round's outcome, a value per row of the request: ``acknowledged`` int32 [rows] and a tree each.

    ``depth`` counts the levels grown, fewer than asked for where the next would have earned too little.
    ``level_ms`` is what one more level usually takes for a round of this size, 0 where there is no experience.
    ``ahead`` int32 [rows] counts the levels that had been drafted ahead, -1 for a row of which nothing had;
    ``saved_ms`` is about what they would have taken.
    """

    acknowledged: Int32
    trees: list[TokenTree]
    depth: int
    level_ms: float
    ahead: Int32
    saved_ms: float


class Drafter:
    """All rows this drafter serves, over one KV pool.

    ``max_tokens`` bounds the tree nodes fed per level, ``catch_up`` the context tokens a row may be behind and
    still be drafted at once; rows further behind are warmed ``warm_chunk`` tokens at a time between rounds.
    With ``search`` the device runs rounds as a whole, where it can; nothing is drafted ahead of them.
    ``clock`` returns seconds; it measures levels and decides nothing.
    """

    def __init__(
        self,
        runner: Runner,
        pool: BlockPool,
        *,
        max_tokens: int,
        catch_up: int,
        warm_chunk: int,
        compile_schema: Compile = no_grammars,
        search: SearchBeams | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._runner = runner
        self._pool = pool
        self._compile_schema = compile_schema
        self._search = search
        self._max_tokens = max_tokens
        self._catch_up = catch_up
        self._warm_chunk = warm_chunk
        self._clock = clock
        self._level_time = LevelTime()
        self._rows: dict[Key, Draft] = {}
        self._saved_ms = 0.0  # of the round at hand
        self.ahead = Ahead(runner, pool)

    @property
    def num_rows(self) -> int:
        """Requests remembered."""
        return len(self._rows)

    @property
    def has_cold_rows(self) -> bool:
        """Whether `warm` has something to do."""
        return any(self._is_cold(draft) for draft in self._rows.values())

    @property
    def num_blocks(self) -> int:
        """Blocks of the KV pool."""
        return self._pool.num_blocks

    @property
    def num_blocks_used(self) -> int:
        """Blocks that rows hold."""
        return self._pool.num_blocks - self._pool.num_free

    def keep(self, groups: Container[Group]) -> None:
        """Forget the rows of every other (verifier, ring)."""
        gone = [key for key in self._rows if key[:2] not in groups]
        for group in {key[:2] for key in gone}:
            self.ahead.stop(group)
        self._forget(gone)

    def draft(self, message: DraftRequest) -> Drafted:
        """Fold the rows in, free the absent ones, and expand a tree for every row that is ready."""
        keys = [_key(message, row) for row in range(len(message.request))]
        named = set(keys)
        group = (message.verifier, message.ring)
        self.ahead.stop(group)
        if self._pool.num_free * LOW_PART < self._pool.num_blocks:
            self._drop_ahead()
        has_ahead = np.array([key in self._rows and bool(self._rows[key].branches) for key in keys], np.bool_)
        self._forget([key for key in self._rows if key[:2] == group and key not in named])
        acknowledged = self._fold_all(message, keys)
        ready = [
            row
            for row, key in enumerate(keys)
            if acknowledged[row] >= 0
            and message.max_depth[row] > 0
            and not message.warm[row]
            and not self._is_cold(self._rows[key])
        ]
        trees = [EMPTY] * len(keys)
        ahead = np.where(has_ahead, 0, -1).astype(np.int32)
        self._saved_ms = 0.0
        drafted, depth = self._expand(message, keys, ready, acknowledged, ahead)
        for row, tree in zip(ready, drafted, strict=True):
            trees[row] = tree
        width, _ = fit_width_depth(len(ready), message.width, message.depth, self._max_tokens)
        level_ms = self._level_time.typical_ms(len(ready) * width)
        return Drafted(acknowledged, trees, depth, level_ms, ahead, self._saved_ms)

    def warm(self) -> None:
        """Feed one bounded chunk of the first row that lags behind."""
        draft = next((draft for draft in self._rows.values() if self._is_cold(draft)), None)
        if draft is None:
            return
        start = draft.slots.length
        end = min(start + self._warm_chunk, len(draft.tokens) - 1)
        self._runner.top(build_plan([context_row(draft, end, last_logits=False)]), 1)
        draft.slots.length = end

    def _drop_ahead(self) -> None:
        self.ahead.stop_all()
        for draft in self._rows.values():
            draft.give_back()

    def _is_cold(self, draft: Draft) -> bool:
        return draft.num_pending > self._catch_up

    def _forget(self, keys: Sequence[Key]) -> None:
        for key in keys:
            draft = self._rows.pop(key)
            draft.slots.free()
            if draft.guide is not None:
                draft.guide.close()

    # -- folding ----------------------------------------------------------------------------------------------
    def _fold_all(self, message: DraftRequest, keys: list[Key]) -> Int32:
        """Bring every row to its new context; [rows] of acknowledged positions. KV moves once for all."""
        acknowledged = np.full(len(keys), NEED_CONTEXT, np.int32)
        sources, destinations = [], []
        for row, key in enumerate(keys):
            if message.max_depth[row] == 0:
                self._forget([key] if key in self._rows else [])
                continue
            if self._has_foreign_ids(message.row_tokens(row)):
                self._forget([key] if key in self._rows else [])
                acknowledged[row] = NO_ROOM  # not NEED_CONTEXT: the whole context would be sent again each step
                continue
            try:
                moves = self._fold(message, row, key)
            except OutOfBlocks:
                self._forget([key])
                acknowledged[row] = NO_ROOM
                continue
            if moves is not None:
                sources.append(moves[0])
                destinations.append(moves[1])
                acknowledged[row] = len(self._rows[key].tokens)
        if sources:
            self._runner.cache.move(np.concatenate(sources), np.concatenate(destinations))
        return acknowledged

    def _has_foreign_ids(self, tokens: Int32) -> bool:
        """Whether a token has no embedding here: a target may draw ids of its padding rows."""
        return bool(tokens.size) and int(tokens.max()) >= self._runner.vocab_size

    def _fold(self, message: DraftRequest, row: int, key: Key) -> tuple[Int32, Int32] | None:
        """None when the row's prefix is not the one held here: the verifier is asked for all of it."""
        tokens, base = message.row_tokens(row), int(message.base[row])
        draft = self._rows.get(key)
        if draft is None:
            # Everything a row needs is told with base 0; with another base it is refused below.
            start = int(message.position[row] - message.committed[row])
            guide = Guide.of(self._compile_schema, message.row_schema(row), start)
            draft = self._rows[key] = Draft(SequenceSlots(self._pool), guide)
        if not draft.knows(base):
            self._forget([key])
            return None
        draft.slots.reserve(base + len(tokens))
        self.ahead.heard(draft, base, new := tokens.tolist())
        moves = draft.follow(base, new)
        if draft.digest != message.digest[row].tobytes() or not draft.tokens:
            self._forget([key])
            return None
        return moves

    # -- expansion --------------------------------------------------------------------------------------------
    def _expand(
        self, message: DraftRequest, keys: list[Key], ready: list[int], acknowledged: Int32, ahead: Int32
    ) -> tuple[list[TokenTree], int]:
        width, depth = fit_width_depth(len(ready), message.width, message.depth, self._max_tokens)
        if not ready or width == 0 or depth == 0:
            return [EMPTY] * len(ready), 0
        drafts = [self._rows[keys[row]] for row in ready]
        self._narrow(drafts, width)
        depths = np.minimum(message.max_depth[ready], depth)
        for index, draft in enumerate(drafts):
            depths[index] = self._room(draft, int(depths[index]), width)
        for row, draft_depth in zip(ready, depths.tolist(), strict=True):
            if draft_depth == 0:
                acknowledged[row] = NO_ROOM
        expansion, recall, answers = Expansion(depths, width), Recall(drafts), Answers()
        weights, stop_value = message.weight[ready], message.stop_value
        is_whole = self._search is not None and can_run_whole(drafts, width, self._runner.vocab_size)
        if self._search is not None and is_whole:
            start = self._clock()
            run_whole(self._search, drafts, depths, expansion, width, weights=weights, stop_value=stop_value)
            self._time_levels(len(ready) * width, int(depths.max()), start)
        else:
            self._feed_contexts(drafts, expansion, width, recall, answers)
            while len(expansion.frontier.row) and expansion.value(weights) >= stop_value:
                self._feed_level(drafts, expansion, width, recall, answers)
        trees = expansion.trees()
        for draft, tree in zip(drafts, trees, strict=True):
            draft.told(tree)
            draft.taken = None
        has_ahead = ahead[ready] >= 0
        ahead[ready] = np.where(has_ahead, recall.levels, -1)
        if not is_whole:
            self.ahead.begin((message.verifier, message.ring), drafts, answers, width, expansion.depth)
        return trees, expansion.depth

    def _narrow(self, drafts: list[Draft], width: int) -> None:
        """What was drafted ahead may have been for wider trees."""
        moves = [draft.narrow(width) for draft in drafts if draft.taken is not None]
        if moves:
            self._runner.cache.move(
                np.concatenate([source for source, _ in moves]), np.concatenate([goal for _, goal in moves])
            )

    def _room(self, draft: Draft, depth: int, width: int) -> int:
        """The depth for which the pool has room: the last level is never fed, so it needs none."""
        context = len(draft.tokens)
        while depth > 0:
            try:
                draft.slots.reserve(context + (depth - 1) * width)
            except OutOfBlocks:
                depth -= 1
            else:
                return depth
        return 0

    def _feed_contexts(
        self, drafts: list[Draft], expansion: Expansion, width: int, recall: Recall, answers: Answers
    ) -> None:
        frontier = expansion.frontier
        if not len(frontier.row):
            return
        known, rows = recall.answers(frontier), []
        to_feed = [row for row in frontier.row.tolist() if row not in known]
        for row in to_feed:
            draft = drafts[row]
            draft.slots.length = min(draft.slots.length, len(draft.tokens) - 1)  # its logits are needed again
            rows.append(context_row(draft, len(draft.tokens), last_logits=True))
        allowed = _allowed([(drafts[row].guide, []) for row in to_feed])
        fed = self._runner.top(build_plan(rows), width, allowed) if rows else None
        answers.grow(expansion, *merged(frontier, known, fed))
        for row in to_feed:
            drafts[row].slots.length = len(drafts[row].tokens)
        self._saved_ms += self._saving_ms(len(frontier.row), len(to_feed))

    def _feed_level(
        self, drafts: list[Draft], expansion: Expansion, width: int, recall: Recall, answers: Answers
    ) -> None:
        start, frontier = self._clock(), expansion.frontier
        known, trees = recall.answers(frontier), expansion.trees()
        plan_rows = []
        places: list[tuple[Guide | None, list[int]]] = []
        for row in np.unique(frontier.row).tolist():
            draft, tree = drafts[row], trees[row]
            if row not in known:
                plan_rows.append(unfed_row(draft, tree))
                places += _places(draft.guide, tree, range(draft.num_fed, len(tree)))
            draft.num_fed = len(tree)
        fed = self._runner.top(build_plan(plan_rows), width, _allowed(places)) if plan_rows else None
        answers.grow(expansion, *merged(frontier, known, fed))
        num_fed = 0 if fed is None else len(fed[0])
        if num_fed:
            self._level_time.observe(num_fed, (self._clock() - start) * 1e3)
        self._saved_ms += self._saving_ms(len(frontier.row), num_fed)

    def _time_levels(self, num_nodes: int, num_passes: int, start: float) -> None:
        """A round as a whole took as long as its passes, which are about alike."""
        if num_passes:
            self._level_time.observe(num_nodes, (self._clock() - start) * 1e3 / num_passes)

    def _saving_ms(self, num_nodes: int, num_fed: int) -> float:
        """What a forward pass over ``num_nodes`` usually takes more than one over ``num_fed`` of them."""
        if num_fed == num_nodes:
            return 0.0
        fed_ms = self._level_time.typical_ms(num_fed) if num_fed else 0.0
        return max(0.0, self._level_time.typical_ms(num_nodes) - fed_ms)


def _places(guide: Guide | None, tree: TokenTree, nodes: Sequence[int]) -> list[tuple[Guide | None, list[int]]]:
    """Each node's guide and path; without a guide nobody asks for the path."""
    if guide is None:
        return [(None, [])] * len(nodes)
    return [(guide, path) for path in paths(tree, nodes)]


def _allowed(places: Sequence[tuple[Guide | None, list[int]]]) -> dict[int, Mask]:
    """The masks by index of the wanted row, for those that are bound."""
    masks = {index: guide.allowed_after(path) for index, (guide, path) in enumerate(places) if guide is not None}
    return {index: mask for index, mask in masks.items() if mask is not None}


def _key(message: DraftRequest, row: int) -> Key:
    return message.verifier, message.ring, message.request[row].tobytes(), int(message.epoch[row])


def drafted_columns(trees: Sequence[TokenTree]) -> dict[str, npt.NDArray[Any]]:
    """The tree columns of a CandidateTrees message."""
    return {
        "tree_offsets": np.array([0, *accumulate(map(len, trees))], np.int32),
        "tokens": np.concatenate([EMPTY.tokens, *(tree.tokens for tree in trees)]),
        "parents": np.concatenate([EMPTY.parents, *(tree.parents for tree in trees)]),
        "logprobs": np.concatenate([EMPTY.logprobs, *(tree.logprobs for tree in trees)]),
    }
