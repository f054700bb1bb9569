"""What the drafter remembers of one request: its context, the KV that is valid, the last candidate tree.

Invariant: KV slots 0 .. slots.length - 1 hold context[:slots.length]; the next forward feeds the rest. After a
tree was drafted the whole context is fed and node i of the tree, if fed, sits at slot length + i. Between
messages the tree may grow beyond its candidates, by what is drafted ahead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from services.drafter.branch import Branch
from services.drafter.guide import Guide
from shared import digest as digests
from shared.inference.blocks import SequenceSlots
from shared.inference.plan import PlanRow, chain_row
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
    num_candidates: int = 0  # leading nodes of `tree` that the verifier was told
    branches: list[Branch] = field(default_factory=list)  # drafted ahead from outcomes of `tree`
    taken: Branch | None = None  # the one that has come true; its node i sits at slot length + i

    @property
    def num_pending(self) -> int:
        """Context tokens that still have to be fed."""
        return len(self.tokens) - self.slots.length

    def follow(self, base: int, tokens: Sequence[int]) -> tuple[Int32, Int32]:
        """Make the context context[:base] + tokens, keeping all KV that still holds.

        Walks the new tokens down the last tree, or takes the branch that was drafted for them. Returns the
        (source, destination) slots of the nodes that stay; the caller moves their KV before anything is fed.
        Whether ``base`` is known is for `knows`.
        """
        known = self.tokens[base:]
        common = _common_prefix(known, tokens)
        self._extend(base + common, tokens[common:])
        if self.guide is not None:
            self.guide.follow(self.tokens, base + common)
        if common < len(known):
            self.slots.length = min(self.slots.length, base + common)
            self.taken = None
            path: list[int] = []
        else:
            self.taken = self._branch(tokens[common:])
            path = self._path(tokens[common:]) if self.taken is None else self.taken.path
        kept = path if self.taken is None else [*path, *self.taken.nodes]
        num_fed = self.num_fed
        self.told(EMPTY)
        self.num_fed = 0
        if not path:
            return NO_SLOTS, NO_SLOTS
        root = self.slots.length
        nodes = self.slots.slots(root, root + num_fed)
        self.slots.length = root + len(path)
        return nodes[kept], nodes[: len(kept)]

    def told(self, tree: TokenTree) -> None:
        """The verifier hears of ``tree``; what was drafted ahead of another one is of no use."""
        self.tree, self.num_candidates, self.branches = tree, len(tree), []

    def give_back(self) -> None:
        """Drop what was drafted ahead, for the room it takes."""
        self.told(self.tree.prefix(self.num_candidates))
        self.num_fed = min(self.num_fed, self.num_candidates)
        self.slots.trim(max(self.slots.length + self.num_fed, len(self.tokens)))

    def narrow(self, width: int) -> tuple[Int32, Int32]:
        """Fit the branch taken to trees of ``width``, or drop it; (source, destination) slots as of `follow`."""
        if self.taken is None or self.taken.width == width:
            return NO_SLOTS, NO_SLOTS
        if self.taken.width < width:
            self.taken = None
            return NO_SLOTS, NO_SLOTS
        root, num_fed = self.slots.length, self.taken.num_fed
        self.taken, kept = self.taken.narrowed(width)
        nodes = self.slots.slots(root, root + num_fed)
        return nodes[kept], nodes[: len(kept)]

    def knows(self, base: int) -> bool:
        """Whether a message that builds on ``base`` can be followed."""
        return base <= len(self.tokens)

    def _extend(self, keep: int, tokens: Sequence[int]) -> None:
        if keep < len(self.tokens):
            del self.tokens[keep:]
            self.digest = digests.extend(digests.EMPTY, self.tokens)
        self.tokens.extend(tokens)
        self.digest = digests.extend(self.digest, tokens)

    def _branch(self, tokens: Sequence[int]) -> Branch | None:
        """What was drafted ahead for exactly these tokens."""
        wanted = list(tokens)
        return next((branch for branch in self.branches if branch.tokens == wanted and len(branch.ids)), None)

    def _path(self, tokens: Sequence[int]) -> list[int]:
        """Fed nodes that the tokens walk through, from the root on."""
        children, node, path = self.tree.children(), ROOT, []
        for token in tokens:
            node = children.get((node, token), self.num_fed)
            if node >= self.num_fed:
                break
            path.append(node)
        return path


def context_row(draft: Draft, end: int, *, last_logits: bool) -> PlanRow:
    """Feeds context[slots.length : end]."""
    start = draft.slots.length
    tokens = np.array(draft.tokens[start:end], np.int32)
    return chain_row(draft.slots.slots(0, start), tokens, draft.slots.slots(start, end), last_logits=last_logits)


def unfed_row(draft: Draft, tree: TokenTree) -> PlanRow:
    """Feeds the nodes of ``tree`` beyond the ``num_fed`` whose KV is there, and wants the logits of each."""
    root = draft.slots.length
    return PlanRow(
        context=draft.slots.slots(0, root),
        tokens=tree.tokens,
        parents=tree.parents,
        slots=draft.slots.slots(root, root + len(tree)),
        logits=np.arange(draft.num_fed, len(tree)),
        written=draft.num_fed,
    )


def _common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    for index, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return index
    return min(len(left), len(right))
