"""Keeps the draft of a structured output inside its grammar: no budget goes to what cannot be accepted.

A hint like everything here: where the grammar cannot be followed, the draft goes on without, and the target's own
draws are inside the grammar all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future

from shared.errors import GrammarError
from shared.grammar import Compile, Mask, Matcher
from shared.tree import TokenTree


class Guide:
    """The grammar of one row's output, which begins at context position ``start``, once it is compiled."""

    def __init__(self, compiling: Future[Matcher], start: int) -> None:
        self._compiling = compiling
        self._matcher: Matcher | None = None
        self._start = start
        self._is_lost = False

    @classmethod
    def of(cls, compile_schema: Compile, schema: str, start: int) -> Guide | None:
        """None for free text."""
        return cls(compile_schema(schema), start) if schema else None

    @property
    def is_settled(self) -> bool:
        """Whether what is allowed after the context stays as it is, until that changes."""
        return self._is_lost or self._matcher is not None

    def close(self) -> None:
        """Nobody asks any more: what is not compiled yet need not be."""
        self._compiling.cancel()

    def follow(self, context: Sequence[int], kept: int) -> None:
        """The context is now ``context``, of which the first ``kept`` tokens are as they were."""
        if self._is_lost or not self._compiling.done() or self._compiling.cancelled():
            return
        try:
            matcher = self._matcher = self._matcher or self._compiling.result()
            matcher.shorten(min(matcher.num_tokens, max(0, kept - self._start)))
            matcher.extend(context[self._start + matcher.num_tokens :])
        except GrammarError:
            self._is_lost = True

    def allowed_after(self, path: Sequence[int]) -> Mask | None:
        """bool [vocab]: what may follow the context and ``path``; None: everything."""
        if self._is_lost or self._matcher is None:
            return None
        try:
            return self._matcher.allowed_after(path)
        except GrammarError:
            self._is_lost = True
            return None


def paths(tree: TokenTree, nodes: Sequence[int]) -> list[list[int]]:
    """The tokens from the root to each of ``nodes``, its own included."""
    tokens, parents = tree.tokens.tolist(), tree.parents.tolist()
    walked: list[list[int]] = []
    for node in nodes:
        path = []
        while node >= 0:
            path.append(tokens[node])
            node = parents[node]
        walked.append(path[::-1])
    return walked


def allowed_at(nodes: Sequence[tuple[Guide | None, TokenTree, int]]) -> dict[int, Mask]:
    """What may follow each node of a tree, by its index in ``nodes``, for those that are bound."""
    bound = [(index, guide, tree, node) for index, (guide, tree, node) in enumerate(nodes) if guide is not None]
    masks = {index: guide.allowed_after(paths(tree, [node])[0]) for index, guide, tree, node in bound}
    return {index: mask for index, mask in masks.items() if mask is not None}
