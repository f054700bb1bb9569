"""A forward plan as one array of int32, cut into tiles, for devices that compute all rows in one call.

A tile is up to `TILE` consecutive fed tokens of one row with the keys they may see: the row's committed context,
and its uncommitted nodes under a mask. All tiles of a pass have the same shape, so whatever a plan needs fits
every larger `Shape` too: what is too much is padding, which nobody reads and which writes to a slot of its own.
That is what makes passes of a fixed shape possible.

Numpy only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.inference.plan import ForwardPlan, Int32Array, IntArray

TILE = 32  # queries; more of a row's would be padding for the rows that have few
WORD = 32  # mask bits of an int32


@dataclass(frozen=True, slots=True)
class Shape:
    """How large a pass is, or may be.

    ``keys``: columns for committed keys; 0 where attention reads each context in place, by its first slot.
    """

    tokens: int  # fed
    tiles: int
    queries: int  # of a tile
    keys: int  # committed, of a tile
    nodes: int  # uncommitted keys of a tile, a multiple of WORD
    logits: int

    def columns(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of each column, in the order in which they lie in the array.

        place: where a token's output is among [tiles * queries]; queries: the token of each query; bounds: tile t
        has the tokens bounds[t] to bounds[t+1] - 1; first_keys: slot of its first committed key, one more than
        tiles; committed: number of them; context: their slots; node_slots, node_positions: of uncommitted keys;
        visible: which of these each query sees, as bits, lowest first.
        """
        tiles, queries, nodes = self.tiles, self.queries, self.nodes
        return {
            "token_ids": (self.tokens,),
            "positions": (self.tokens,),
            "slots": (self.tokens,),
            "place": (self.tokens,),
            "wanted": (self.logits,),
            "queries": (tiles, queries),
            "bounds": (tiles + 1,),
            "first_keys": (tiles + 1,),
            "committed": (tiles,),
            "context": (tiles, self.keys),
            "node_slots": (tiles, nodes),
            "node_positions": (tiles, nodes),
            "visible": (tiles, queries, nodes // WORD),
        }

    @property
    def size(self) -> int:
        """Elements of the array."""
        return sum(prod(dims) for dims in self.columns().values())

    def cut(self, array: Any) -> dict[str, Any]:
        """Views of an array's or a tensor's columns by name; it has `size` elements."""
        views, start = {}, 0
        for name, dims in self.columns().items():
            views[name] = array[start : start + prod(dims)].reshape(dims)
            start += prod(dims)
        return views

    @property
    def num_scores(self) -> int:
        """Queries times keys, of all tiles."""
        return self.tiles * self.queries * (self.keys + self.nodes)

    def holds(self, other: Shape) -> bool:
        """Whether what has the other shape can be padded to this one."""
        return (
            self.tokens >= other.tokens
            and self.tiles >= other.tiles
            and self.queries >= other.queries
            and self.keys >= other.keys
            and self.nodes >= other.nodes
            and self.logits >= other.logits
        )


def shape_of(plan: ForwardPlan, *, in_place: bool, queries: int = 0) -> Shape:
    """The smallest shape for a plan of at least one token; ``queries`` of a tile, 0: as many as are of use."""
    fed = np.diff(plan.row_offsets)
    queries = queries or min(TILE, power_of_two(int(fed.max())))
    uncommitted = np.diff(plan.context_offsets) - plan.committed + fed
    return Shape(
        tokens=plan.num_tokens,
        tiles=int((-(-fed // queries)).sum()),
        queries=queries,
        keys=0 if in_place else words(int(plan.committed.max())),
        nodes=words(int(uncommitted.max())),
        logits=len(plan.logit_rows),
    )


def words(count: int) -> int:
    """``count`` rounded up to whole words, which masks of kernels have to be aligned to as well."""
    return -(-count // WORD) * WORD


def power_of_two(count: int) -> int:
    """The smallest that is not below ``count``."""
    return 1 << max(0, count - 1).bit_length()


def pack(plan: ForwardPlan, shape: Shape, *, spare_slot: int, out: Int32Array | None = None) -> Int32Array:
    """The array of a plan in a shape that holds it; ``spare_slot`` is written by padding alone.

    Padding is finite whatever is computed from it: each query of it sees a key.
    """
    array = np.empty(shape.size, np.int32) if out is None else out
    array.fill(0)
    columns: dict[str, npt.NDArray[np.int32]] = shape.cut(array)
    num_tokens = plan.num_tokens
    columns["token_ids"][:num_tokens] = plan.token_ids
    columns["positions"][:num_tokens] = plan.positions
    columns["slots"][:] = spare_slot
    columns["slots"][:num_tokens] = plan.slots
    columns["wanted"][: len(plan.logit_rows)] = plan.logit_rows
    columns["bounds"][:] = num_tokens
    columns["context"][:] = spare_slot
    columns["node_slots"][:] = spare_slot
    columns["visible"][:, :, 0] = 1
    mask = np.zeros((shape.queries, shape.nodes), np.bool_)
    for tile, (row, start, stop) in enumerate(_tiles(plan, shape.queries)):
        _fill(columns, plan, tile, row, start, stop, mask)
    return array


def _tiles(plan: ForwardPlan, queries: int) -> Iterator[tuple[int, int, int]]:
    """Row of each tile, and its range among the T fed tokens."""
    for row, (start, stop) in enumerate(
        zip(plan.row_offsets[:-1].tolist(), plan.row_offsets[1:].tolist(), strict=True)
    ):
        for first in range(start, stop, queries):
            yield row, first, min(first + queries, stop)


def _fill(
    columns: dict[str, npt.NDArray[np.int32]],
    plan: ForwardPlan,
    tile: int,
    row: int,
    start: int,
    stop: int,
    mask: npt.NDArray[np.bool_],
) -> None:
    """One tile; queries beyond its last token repeat that. ``mask`` [queries, nodes] is scratch."""
    size, queries = stop - start, len(mask)
    first_fed, end_fed = plan.row_offsets[row : row + 2].tolist()
    begin, end = plan.context_offsets[row : row + 2].tolist()
    committed = int(plan.committed[row])
    written = end - begin - committed
    columns["place"][start:stop] = np.arange(tile * queries, tile * queries + size)
    columns["queries"][tile] = stop - 1
    columns["queries"][tile, :size] = np.arange(start, stop)
    columns["bounds"][tile] = start
    columns["committed"][tile] = committed
    if committed:
        columns["first_keys"][tile] = plan.context_slots[begin]
        if columns["context"].shape[1]:
            columns["context"][tile, :committed] = plan.context_slots[begin : begin + committed]
    num_nodes = written + end_fed - first_fed
    for name, of_written, of_fed in (
        ("node_slots", plan.context_slots, plan.slots),
        ("node_positions", plan.context_positions, plan.positions),
    ):
        columns[name][tile, :written] = of_written[begin + committed : end]
        columns[name][tile, written:num_nodes] = of_fed[first_fed:end_fed]
    whole = plan.mask_of(row)
    local = slice(start - first_fed, stop - first_fed)
    mask[:] = False
    mask[:size, :num_nodes] = np.tri(size, num_nodes, written + local.start) if whole is None else whole[local]
    mask[size:] = mask[size - 1]
    columns["visible"][tile] = np.packbits(mask, axis=1, bitorder="little").view("<i4")


def contexts_lie_in_place(plan: ForwardPlan) -> bool:
    """Whether every row's committed keys are consecutive slots."""
    starts = plan.context_offsets[:-1]
    return bool(are_consecutive(plan.context_slots, starts, starts + plan.committed).all())


def are_consecutive(slots: Int32Array, starts: IntArray, stops: IntArray) -> npt.NDArray[np.bool_]:
    """For each range of ``slots`` whether each is one more than the one before: bool, like starts."""
    if len(slots) == 0:
        return np.ones(len(starts), dtype=np.bool_)
    breaks = np.cumsum(np.diff(slots, prepend=slots[0] - 1) != 1)  # [i]: breaks between neighbours up to i
    is_empty = starts == stops
    unbroken = breaks[stops - 1] == breaks[np.where(is_empty, 0, starts)]
    consecutive: npt.NDArray[np.bool_] = is_empty | unbroken
    return consecutive
