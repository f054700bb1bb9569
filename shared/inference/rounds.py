"""The levels of a beam search as one array of int32, for a device that runs them by itself. Numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.inference.key_ranges import key_ranges
from shared.inference.plan import Int32Array
from shared.inference.tiles import Shape, fill_ranges, range_columns, words


@dataclass(frozen=True, slots=True)
class BeamRow:
    """Where one sequence's KV is: ``context`` [k] slots, in order, of all that is fed before the first level.

    ``nodes`` [m] are slots for the levels, `width` for each that is fed; fewer for a shallower row.
    """

    context: Int32Array
    nodes: Int32Array


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelShape:
    """How large the levels of a round are, or may be: all alike, and as many as ``nodes`` has room for.

    Committed keys are told by their slots, in ``keys`` columns, or as ``ranges``; one of both is 0.
    """

    rows: int
    width: int
    nodes: int  # columns for those that are fed, a multiple of a mask's word
    keys: int
    ranges: int

    @property
    def depth(self) -> int:
        """Levels there is room for: the last one is never fed."""
        return self.nodes // self.width + 1

    @property
    def tiles(self) -> Shape:
        """Of the pass that feeds one level: a tile for each row."""
        tokens = self.rows * self.width
        return Shape(
            tokens=tokens,
            tiles=self.rows,
            queries=self.width,
            keys=self.keys,
            nodes=self.nodes,
            logits=tokens,
            ranges=self.ranges,
        )

    @property
    def cost(self) -> float:
        """Of one level, as `Shape.cost`."""
        return self.tiles.cost

    def holds(self, other: LevelShape) -> bool:
        """Whether what has the other shape can be padded to this one."""
        return self.tiles.holds(other.tiles)

    @property
    def size(self) -> int:
        """Elements of the array."""
        return sum(prod(dims) for dims in self._columns().values())

    def cut(self, array: Any) -> dict[str, Any]:
        """Views of an array's or a tensor's columns, named as by `Shape.columns`."""
        views, start = {}, 0
        for name, dims in self._columns().items():
            views[name] = array[start : start + prod(dims)].reshape(dims)
            start += prod(dims)
        return views

    def _columns(self) -> dict[str, tuple[int, ...]]:
        return {
            "committed": (self.rows,),
            "context": (self.rows, self.keys),
            "node_slots": (self.rows, self.nodes),
            **range_columns(self.ranges),
        }


class Levels:
    """Where up to ``depth`` levels below these contexts are. ``in_place``: tell of committed keys as ranges."""

    def __init__(self, rows: Sequence[BeamRow], *, width: int, depth: int, in_place: bool) -> None:
        self._rows = rows
        self._width = width
        self._depth = depth
        self._lengths = np.array([len(row.context) for row in rows])
        self._ranges = None
        if in_place:
            self._ranges = key_ranges(np.concatenate([row.context for row in rows]), self._lengths)

    @property
    def shape(self) -> LevelShape:
        """The smallest that holds it."""
        return LevelShape(
            rows=len(self._rows),
            width=self._width,
            nodes=words((self._depth - 1) * self._width),
            keys=words(int(self._lengths.max())) if self._ranges is None else 0,
            ranges=0 if self._ranges is None else len(self._ranges.owner),
        )

    def pack(self, shape: LevelShape, *, spare_slot: int) -> Int32Array:
        """The array for a shape that holds it; ``spare_slot`` is written by padding alone."""
        array = blank_levels(shape, spare_slot=spare_slot)
        columns = shape.cut(array)
        columns["committed"][: len(self._rows)] = self._lengths
        if self._ranges is not None:
            fill_ranges(columns, self._ranges)
        for index, row in enumerate(self._rows):
            if shape.keys:
                columns["context"][index, : len(row.context)] = row.context
            columns["node_slots"][index, : len(row.nodes)] = row.nodes
        return array


def blank_levels(shape: LevelShape, *, spare_slot: int) -> Int32Array:
    """The array of levels that are all padding."""
    array = np.zeros(shape.size, np.int32)
    columns = shape.cut(array)
    columns["context"][:] = spare_slot
    columns["node_slots"][:] = spare_slot
    return array


@dataclass(frozen=True, slots=True)
class Beams:
    """A round's outcome, a line per level: columns [depth, rows, width], within a row by falling path probability.

    parents: index of the parent in its row's level above; 0 at level 1.
    """

    ids: Int32Array
    parents: Int32Array
    logprobs: npt.NDArray[np.float32]  # of paths; -inf where a row has no such node
