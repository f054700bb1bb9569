"""Sample and match: walk each request's tree along the tokens the target draws.

At every node the next token is drawn from the target's own distribution. If it is a child in the tree, the walk
descends; otherwise it is the request's own token for this step. No lossless rule accepts more from a tree that is
a deterministic function of the context (docs/adr/0004-sample-and-match.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from services.verifier.adjustment import Adjustment
from services.verifier.foresight import Foresight
from services.verifier.sampling import Draw, SamplingParams, draw_freely, draw_token
from services.verifier.typical import typical_child
from shared.errors import GrammarError
from shared.grammar import Matcher
from shared.tree import ROOT, TokenTree


@dataclass(slots=True)
class Walk:
    """One request's walk. ``first_logit`` is the row of its root's logits; node i's row is first_logit + 1 + i.

    The first draw fills context position ``position``. Below ``min_position`` the ``banned`` ids are not drawn.
    The ``adjustment`` counts the output up to the root, and the ``matcher`` has read it. A grammar that fails ends
    the walk with its ``error``; what was drawn until then does not count. ``typical`` is the threshold of
    `typical.py`, 0: exact. The ``foresight`` makes draws cheaper, not other.
    """

    tree: TokenTree
    first_logit: int
    params: SamplingParams
    position: int
    min_position: int = 0
    banned: frozenset[int] = frozenset()
    adjustment: Adjustment | None = None
    matcher: Matcher | None = None
    error: GrammarError | None = None
    typical: float = 0.0
    foresight: Foresight | None = None
    tokens: list[int] = field(default_factory=list)  # drawn, in order; all but the last are accepted nodes
    path: list[int] = field(default_factory=list)  # accepted nodes
    _children: dict[tuple[int, int], int] = field(init=False)

    def __post_init__(self) -> None:
        self._children = self.tree.children()

    @property
    def logit_row(self) -> int:
        """Row of the logits that the next token is drawn from."""
        return self.first_logit + 1 + (self.path[-1] if self.path else ROOT)

    @property
    def drawn_rows(self) -> list[int]:
        """Row of the logits that each token was drawn from."""
        return [self.first_logit + 1 + node for node in (ROOT, *self.path)][: len(self.tokens)]

    @property
    def is_free(self) -> bool:
        """Whether every token is drawn from the target's own logits: none adjusted or only typical, nothing banned
        at the root.

        What is not banned there is not banned below.
        """
        is_bent = self.adjustment is not None or self.matcher is not None or self.typical > 0
        return not is_bent and (not self.banned or self.position >= self.min_position)

    def next_draw(self) -> Draw | None:
        """What is drawn next; None where the grammar has failed."""
        position = self.position + len(self.tokens)
        banned = self.banned if position < self.min_position else frozenset()
        try:
            allowed = None if self.matcher is None else self.matcher.allowed_after(self.tokens)
        except GrammarError as error:
            self.error = error
            return None
        loud = None if self.foresight is None else self.foresight.at(position)
        return Draw(self.params, position, banned, self.adjustment, self.tokens, allowed, loud)

    def accepted(self, drawn: int, logits: npt.NDArray[np.floating[Any]], draw: Draw) -> int:
        """The token drawn; of a request that takes typical ones, a child in its place if the tree lacks it."""
        node = self.path[-1] if self.path else ROOT
        if not self.typical or (node, drawn) in self._children:
            return drawn
        children = [token for parent, token in self._children if parent == node]
        typical = typical_child(logits, draw, children, self.typical) if children else None
        return drawn if typical is None else typical

    def take(self, token: int) -> bool:
        """Record a drawn token; whether the walk goes on below it."""
        child = self._children.get((self.path[-1] if self.path else ROOT, token))
        self.tokens.append(token)
        if child is None:
            return False
        self.path.append(child)
        return True


def walk_trees(logits: npt.NDArray[np.floating[Any]], walks: Sequence[Walk]) -> None:
    """Walk all trees to their ends. ``logits`` [num_logits, vocab]."""
    for walk in walks:
        (_walk_freely if walk.is_free else _walk_bent)(logits, walk)


def _walk_freely(logits: npt.NDArray[np.floating[Any]], walk: Walk) -> None:
    """Of most requests: a draw needs the logits, its noise and nothing else."""
    position, foresight = walk.position, walk.foresight
    goes_on = True
    while goes_on:
        loud = None if foresight is None else foresight.at(position)
        goes_on = walk.take(draw_freely(logits[walk.logit_row], walk.params, position, loud))
        position += 1


def _walk_bent(logits: npt.NDArray[np.floating[Any]], walk: Walk) -> None:
    while (draw := walk.next_draw()) is not None:
        row = logits[walk.logit_row]
        if not walk.take(walk.accepted(draw_token(row, draw), row, draw)):
            break
