"""What the drafter remembers of one request: its context, the KV that is valid, the last candidate tree.

Invariant: KV slots 0 .. slots.length - 1 hold context[:slots.length]; the next forward feeds the rest. After a
tree was drafted the whole context is fed and node i of the tree, if fed, sits at slot length + i.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from services.drafter.guide import Guide
from shared import digest as digests
from shared.inference.blocks import SequenceSlots
from shared.tree import EMPTY, ROOT, TokenTree

Int32 = npt.NDArray[np.int32]
NO_SLOTS: Int32 = np.empty(0, np.int32)


@dataclass(slots=True, eq=False)
class Draft:
    """The draft state of one (verifier, ring, request, epoch)."""

    slots: SequenceSlots
    guide: Guide | None = None  # of a structured output
    tokens: list[int] = field(default_factory=list)
    digest: bytes = digests.EMPTY
    tree: TokenTree = EMPTY
    num_fed: int = 0  # leading nodes of `tree` whose KV was computed

    @property
    def num_pending(self) -> int:
        """Context tokens that still have to be fed."""
        return len(self.tokens) - self.slots.length

    def follow(self, base: int, tokens: Sequence[int]) -> tuple[Int32, Int32]:
        """Make the context context[:base] + tokens, keeping all KV that still holds.

        Walks the new tokens down the last tree. Returns the (source, destination) slots of the nodes on that
        path; the caller moves their KV before anything is fed. Whether ``base`` is known is for `knows`.
        """
        known = self.tokens[base:]
        common = _common_prefix(known, tokens)
        self._extend(base + common, tokens[common:])
        if self.guide is not None:
            self.guide.follow(self.tokens, base + common)
        if common < len(known):
            self.slots.length = min(self.slots.length, base + common)
            path: list[int] = []
        else:
            path = self._path(tokens[common:])
        self.tree, num_fed, self.num_fed = EMPTY, self.num_fed, 0
        if not path:
            return NO_SLOTS, NO_SLOTS
        root = self.slots.length
        nodes = self.slots.slots(root, root + num_fed)
        self.slots.length = root + len(path)
        return nodes[path], nodes[: len(path)]

    def knows(self, base: int) -> bool:
        """Whether a message that builds on ``base`` can be followed."""
        return base <= len(self.tokens)

    def _extend(self, keep: int, tokens: Sequence[int]) -> None:
        if keep < len(self.tokens):
            del self.tokens[keep:]
            self.digest = digests.extend(digests.EMPTY, self.tokens)
        self.tokens.extend(tokens)
        self.digest = digests.extend(self.digest, tokens)

    def _path(self, tokens: Sequence[int]) -> list[int]:
        """Fed nodes that the tokens walk through, from the root on."""
        children, node, path = self.tree.children(), ROOT, []
        for token in tokens:
            node = children.get((node, token), self.num_fed)
            if node >= self.num_fed:
                break
            path.append(node)
        return path


def _common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    for index, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return index
    return min(len(left), len(right))
