"""A round of beam search as one array of int32, for a device that runs all its levels by itself. Numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.inference.plan import ForwardPlan, Int32Array
from shared.inference.tiles import Shape, are_consecutive, pack, words


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

    ``keys``: columns for the contexts' slots; 0 where attention reads them in place.
    """

    feeding: Shape  # wants the logits of each row's last token
    rows: int
    width: int
    depth: int
    keys: int

    @property
    def nodes(self) -> int:
        """Columns for the nodes that are fed, a multiple of a mask's word."""
        return words((self.depth - 1) * self.width)

    @property
    def size(self) -> int:
        """Elements of the array."""
        return self.feeding.size + sum(prod(dims) for dims in self._columns().values())

    def cut(self, array: Any) -> tuple[Any, dict[str, Any]]:
        """Views: what `tiles.pack` fills for ``feeding``; the levels' columns, named as by `Shape.columns`."""
        views, start = {}, self.feeding.size
        for name, dims in self._columns().items():
            views[name] = array[start : start + prod(dims)].reshape(dims)
            start += prod(dims)
        return array[: self.feeding.size], views

    def _columns(self) -> dict[str, tuple[int, ...]]:
        return {
            "first_keys": (self.rows + 1,),
            "committed": (self.rows,),
            "context": (self.rows, self.keys),
            "node_slots": (self.rows, self.nodes),
        }


def pack_round(plan: ForwardPlan, rows: Sequence[BeamRow], shape: RoundShape, *, spare_slot: int) -> Int32Array:
    """The array of a round whose contexts ``plan`` feeds, row by row, in a shape that holds it."""
    array = np.zeros(shape.size, np.int32)
    feeding, columns = shape.cut(array)
    pack(plan, shape.feeding, spare_slot=spare_slot, out=feeding)
    columns["context"][:] = spare_slot
    columns["node_slots"][:] = spare_slot
    for index, row in enumerate(rows):
        columns["first_keys"][index] = row.context[0]
        columns["committed"][index] = len(row.context)
        if shape.keys:
            columns["context"][index, : len(row.context)] = row.context
        columns["node_slots"][index, : len(row.nodes)] = row.nodes
    return array


def rows_lie_in_place(rows: Sequence[BeamRow]) -> bool:
    """Whether every context is consecutive slots."""
    ends = np.cumsum([len(row.context) for row in rows])
    starts = np.concatenate([[0], ends[:-1]])
    return bool(are_consecutive(np.concatenate([row.context for row in rows]), starts, ends).all())


@dataclass(frozen=True, slots=True)
class Beams:
    """A round's outcome, a line per level: columns [depth, rows, width], within a row by falling path probability.

    parents: index of the parent in its row's level above; 0 at level 1.
    """

    ids: Int32Array
    parents: Int32Array
    logprobs: npt.NDArray[np.float32]  # of paths; -inf where a row has no such node
