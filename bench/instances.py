"""Random batches that resemble real ones: beam-searched trees of a draft model that is mostly sure of itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bench.listings import Request
from services.drafter.expansion import Expansion
from services.selector.ranking import Candidates
from shared.tree import TokenTree

DEPTH = 8
WIDTH = 3
SURE = 0.55  # share of positions whose next token the draft model all but knows


def draw_trees(rng: np.random.Generator, num_rows: int, depth: int = DEPTH) -> list[TokenTree]:
    """Candidate trees of width 3. Tokens are ranks among siblings."""
    expansion = Expansion(np.full(num_rows, depth), WIDTH)
    for _ in range(depth):
        children = draw_children(rng, len(expansion.frontier.row))
        expansion.grow(np.tile(np.arange(WIDTH), (len(children), 1)), np.log(children).astype(np.float32))
    return expansion.trees()


def draw_children(rng: np.random.Generator, num_parents: int) -> NDArray[np.float64]:
    """Conditional probabilities [parents, 3]: the first from one of two Betas, the rest split by a third."""
    sure = rng.random(num_parents) < SURE
    first = np.where(sure, rng.beta(30.0, 1.0, num_parents), rng.beta(3.0, 2.2, num_parents))
    share = rng.beta(2.0, 2.0, num_parents)
    children = np.stack([first, (1 - first) * share, (1 - first) * (1 - share)], axis=1)
    floored: NDArray[np.float64] = np.maximum(children, 1e-9)
    return floored


def candidates(trees: list[TokenTree]) -> Candidates:
    """The trees as the selector gets them."""
    return Candidates(
        offsets=np.cumsum([0, *map(len, trees)], dtype=np.int32),
        parents=np.concatenate([tree.parents for tree in trees]),
        logprobs=np.concatenate([tree.logprobs for tree in trees]),
    )


def requests(trees: list[TokenTree], needed: NDArray[np.float64]) -> list[Request]:
    """The trees as the listings get them."""
    return [
        Request(
            parents=tree.parents.tolist(), f=np.exp(tree.logprobs.astype(np.float64)).tolist(), needed=float(need)
        )
        for tree, need in zip(trees, needed, strict=True)
    ]
