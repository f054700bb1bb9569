"""A round of beam search as one array of int32, for a device that runs all its levels by itself. Numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.inference.key_ranges import key_ranges
from shared.inference.plan import ForwardPlan, Int32Array
from shared.inference.tiles import Shape, Tiling, fill_ranges, range_columns, words


@dataclass(frozen=True, slots=True)
class BeamRow:
    """Where one sequence's KV is: ``context`` [k] slots, what the round feeds of it included, in order.

    ``nodes`` [m] are slots for the levels below, `width` for each that is fed; fewer for a shallower row.
    """

    context: Int32Array
    nodes: Int32Array


@dataclass(frozen=True, slots=True)
class RoundShape:
    """How large a round is, or may be: the pass that feeds what the contexts lack, then ``depth - 1`` levels.

    The levels' committed keys are told by their slots, in ``keys`` columns, or as ``ranges``; one of both is 0.
    """

    feeding: Shape  # wants the logits of each row's last token
    rows: int
    width: int
    depth: int
    keys: int
    ranges: int

    @property
    def nodes(self) -> int:
        """Columns for the nodes that are fed, a multiple of a mask's word."""
        return words((self.depth - 1) * self.width)

    @property
    def size(self) -> int:
        """Elements of the array."""
        return self.feeding.size + sum(prod(dims) for dims in self._columns().values())

    def cut(self, array: Any) -> tuple[Any, dict[str, Any]]:
        """Views: what `Tiling.pack` fills for ``feeding``; the levels' columns, named as by `Shape.columns`."""
        views, start = {}, self.feeding.size
        for name, dims in self._columns().items():
            views[name] = array[start : start + prod(dims)].reshape(dims)
            start += prod(dims)
        return array[: self.feeding.size], views

    def _columns(self) -> dict[str, tuple[int, ...]]:
        return {
            "committed": (self.rows,),
            "context": (self.rows, self.keys),
            "node_slots": (self.rows, self.nodes),
            **range_columns(self.ranges),
        }


class Round:
    """What a round computes: ``plan`` feeds the end of each row's context and wants its last logits.

    ``in_place``: tell of committed keys as ranges. The plan's tiles have at least ``fewest_queries``.
    """

    def __init__(
        self,
        plan: ForwardPlan,
        rows: Sequence[BeamRow],
        *,
        width: int,
        depth: int,
        in_place: bool,
        fewest_queries: int = 1,
    ) -> None:
        self._tiling = Tiling(plan, in_place=in_place, fewest_queries=fewest_queries)
        self._rows = rows
        self._width = width
        self._depth = depth
        self._lengths = np.array([len(row.context) for row in rows])
        self._ranges = None
        if in_place:
            self._ranges = key_ranges(np.concatenate([row.context for row in rows]), self._lengths)

    @property
    def shape(self) -> RoundShape:
        """The smallest that holds it."""
        return RoundShape(
            feeding=self._tiling.shape,
            rows=len(self._rows),
            width=self._width,
            depth=self._depth,
            keys=words(int(self._lengths.max())) if self._ranges is None else 0,
            ranges=0 if self._ranges is None else len(self._ranges.owner),
        )

    def pack(self, shape: RoundShape, *, spare_slot: int) -> Int32Array:
        """The array for a shape that holds it; ``spare_slot`` is written by padding alone."""
        array = np.zeros(shape.size, np.int32)
        feeding, columns = shape.cut(array)
        self._tiling.pack(shape.feeding, spare_slot=spare_slot, out=feeding)
        columns["context"][:] = spare_slot
        columns["node_slots"][:] = spare_slot
        columns["committed"][: len(self._rows)] = self._lengths
        if self._ranges is not None:
            fill_ranges(columns, self._ranges)
        for index, row in enumerate(self._rows):
            if shape.keys:
                columns["context"][index, : len(row.context)] = row.context
            columns["node_slots"][index, : len(row.nodes)] = row.nodes
        return array


@dataclass(frozen=True, slots=True)
class Beams:
    """A round's outcome, a line per level: columns [depth, rows, width], within a row by falling path probability.

    parents: index of the parent in its row's level above; 0 at level 1.
    """

    ids: Int32Array
    parents: Int32Array
    logprobs: npt.NDArray[np.float32]  # of paths; -inf where a row has no such node
