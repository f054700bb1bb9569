"""The fixed shapes that passes are padded to: few enough to be recorded at a start, enough for nearly all. Pure.

As long as a pass waits for its weights, which on current GPUs is up to some 200 tokens, more tokens cost next to
nothing. So sizes double up to there; what grows beside the tokens is told in two or three steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from shared.inference.rounds import LevelShape
from shared.inference.tiles import Shape, power_of_two, tiles_for, words

MOST_TOKENS = 512  # fed in one recorded pass: longer ones keep the device busy however they are launched
TOKENS = (1, 2, 4, 8, 16, 32, 64, 128, 192, 256, 384, MOST_TOKENS)
NODES = (32, 64, 256)  # uncommitted keys of a tile: trees, larger ones, chunks of a prompt
KEYS = (256, 2048)  # committed keys of a tile, where they are copied
FEWEST_RANGES = 16  # of committed keys that are read in place: a long context is cut into as many
PIECES = (1, 4)  # ranges of a tile: most contexts lie in one piece, some in a few
TREES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)  # tokens that a row feeds with its tree, the root among them
WIDTHS = (1, 2, 3, 4)  # of beams


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a runner is going to be asked for.

    At most ``rows`` requests in a pass, which feed up to ``trees[-1]`` tokens each, and up to ``chunk`` tokens of
    prompts beside them; contexts of up to ``context`` tokens; beams of ``widths``.
    """

    rows: int
    chunk: int
    context: int
    trees: tuple[int, ...] = TREES
    widths: tuple[int, ...] = ()


def pass_shapes(load: Load, *, in_place: bool) -> set[Shape]:
    """Of the passes that such a load usually brings; ``in_place``: committed keys are told as ranges."""
    return {
        reached
        for fed, logits in _passes(load)
        if sum(fed) <= MOST_TOKENS
        for reached in _contexts(_rounded(fed, logits, in_place=in_place), load, in_place=in_place)
    }


def level_shapes(load: Load, *, in_place: bool) -> set[LevelShape]:
    """Of the levels of beam searches that it brings."""
    return {
        LevelShape(rows=rows, width=width, nodes=NODES[0], keys=keys, ranges=ranges)
        for rows in _up_to(load.rows)
        for width in load.widths
        if rows * width <= MOST_TOKENS
        for keys, ranges in _told(rows, load, in_place=in_place)
    }


def _passes(load: Load) -> Iterator[tuple[list[int], int]]:
    """Tokens that each row feeds, and logits: rows with trees alone, beside prompts, and prompts alone."""
    chunks = [size for size in TOKENS if size < load.chunk] + [load.chunk] if load.chunk else []
    for chunk in chunks:
        yield [chunk], 1
        yield [chunk], 0
    for rows in _up_to(load.rows):
        for tree in load.trees:
            yield [tree] * rows, tree * rows
            for chunk in chunks[-2:]:
                yield [*[tree] * rows, chunk], tree * rows + 1


def _rounded(fed: list[int], logits: int, *, in_place: bool) -> Shape:
    """The pass without its contexts, in the steps that passes are told apart by."""
    tokens = _step(sum(fed), TOKENS)
    queries, counts = tiles_for(np.array(fed), in_place=in_place)
    few = max(1, tokens // 4)
    return Shape(
        tokens=tokens,
        tiles=tokens if queries == 1 else min(tokens, power_of_two(int(counts.sum()))),
        queries=queries,
        keys=0,
        nodes=_step(words(max(fed)), NODES),
        logits=tokens if logits > few else few if logits else 0,
        ranges=0,
    )


def _contexts(shape: Shape, load: Load, *, in_place: bool) -> Iterator[Shape]:
    for keys, ranges in _told(shape.tiles, load, in_place=in_place):
        yield replace(shape, keys=keys, ranges=ranges)


def _told(tiles: int, load: Load, *, in_place: bool) -> Iterator[tuple[int, int]]:
    """Columns for committed keys, and ranges of them: one of both is 0."""
    if in_place:
        yield from ((0, pieces * max(FEWEST_RANGES, tiles)) for pieces in PIECES)
        return
    longest = words(load.context)
    for keys in KEYS:
        yield min(keys, longest), 0


def _up_to(most: int) -> Iterable[int]:
    """1, 2, 4, … and ``most``."""
    return (*(1 << power for power in range((most - 1).bit_length())), most)


def _step(count: int, steps: tuple[int, ...]) -> int:
    """The first of the steps that is not below ``count``, or a power of two."""
    return next((size for size in steps if size >= count), power_of_two(count))
