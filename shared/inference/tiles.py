"""A forward plan as one array of int32, cut into tiles, for devices that compute all rows in one call.

A tile is up to 1, 8 or 32 consecutive fed tokens of one row with the keys they may see: the row's committed
context, and its uncommitted nodes under a mask. All tiles of a pass have the same shape, so whatever a plan needs
fits every larger `Shape` too: what is too much is padding, which nobody reads and which writes to a slot of its
own. That is what makes passes of a fixed shape possible.

Numpy only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.inference.key_ranges import KeyRanges, key_ranges
from shared.inference.plan import ForwardPlan, Int32Array, IntArray

QUERIES = (1, 8, 32)  # of a tile: one token a row, small trees, larger ones and prompts
# Each tile reads, or copies, all keys of its row: for some hundred keys as much work as so many queries more.
TILE_IN_PLACE, TILE_GATHERED = 24, 64
WORD = 32  # mask bits of an int32


@dataclass(frozen=True, slots=True)
class Shape:
    """How large a pass is, or may be.

    Committed keys are told by their slots, in ``keys`` columns, or as ranges of slots; one of both is 0.
    """

    tokens: int  # fed
    tiles: int
    queries: int  # of a tile
    keys: int  # committed, of a tile
    nodes: int  # uncommitted keys of a tile, a multiple of WORD
    logits: int
    ranges: int  # of committed keys, of all tiles

    def columns(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of each column, in the order in which they lie in the array.

        place: where a token's output is among [tiles * queries]; queries: the token of each query; committed:
        number of a tile's committed keys; context: their slots; node_slots, node_positions: of uncommitted keys;
        visible: which of these each query sees, as bits, lowest first; range_tiles, first_keys, num_keys: the tile
        of a range, its first slot, its length. ``first_keys`` has one element more.
        """
        tiles, queries, nodes = self.tiles, self.queries, self.nodes
        return {
            "token_ids": (self.tokens,),
            "positions": (self.tokens,),
            "slots": (self.tokens,),
            "place": (self.tokens,),
            "wanted": (self.logits,),
            "queries": (tiles, queries),
            "committed": (tiles,),
            "context": (tiles, self.keys),
            "node_slots": (tiles, nodes),
            "node_positions": (tiles, nodes),
            "visible": (tiles, queries, nodes // WORD),
            **range_columns(self.ranges),
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
    def cost(self) -> float:
        """Roughly what a pass computes and moves besides the weights, in tokens: an order to choose by."""
        seen = self.nodes / 8 + self.keys / 8
        scores = self.tiles * self.queries * (1 + seen) / 8
        return self.tokens + self.logits / 4 + scores + self.ranges * self.queries / 32

    def holds(self, other: Shape) -> bool:
        """Whether what has the other shape can be padded to this one: cut into tiles alike, and not larger."""
        return (
            self.queries == other.queries
            and self.tokens >= other.tokens
            and self.tiles >= other.tiles
            and self.keys >= other.keys
            and self.nodes >= other.nodes
            and self.logits >= other.logits
            and self.ranges >= other.ranges
        )


def range_columns(ranges: int) -> dict[str, tuple[int, ...]]:
    """Those of `Shape.columns` that tell of ranges."""
    return {"range_tiles": (ranges,), "first_keys": (ranges + 1,), "num_keys": (ranges,)}


def fill_ranges(columns: Mapping[str, Int32Array], ranges: KeyRanges) -> None:
    """Ranges beyond these have no keys."""
    count = len(ranges.owner)
    columns["range_tiles"][:count] = ranges.owner
    columns["first_keys"][:count] = ranges.first
    columns["num_keys"][:count] = ranges.count


def words(count: int) -> int:
    """``count`` rounded up to whole words, which masks of kernels have to be aligned to as well."""
    return -(-count // WORD) * WORD


def power_of_two(count: int) -> int:
    """The smallest that is not below ``count``."""
    return 1 << max(0, count - 1).bit_length()


def tiles_for(fed: IntArray, *, in_place: bool) -> tuple[int, IntArray]:
    """Queries of a tile, and tiles of each row, for rows that feed ``fed`` [rows] tokens: the cheapest."""
    each = TILE_IN_PLACE if in_place else TILE_GATHERED
    ways = [(queries, -(-fed // queries)) for queries in QUERIES]
    return min(ways, key=lambda way: int(way[1].sum()) * (way[0] + each))


def blank(shape: Shape, *, spare_slot: int) -> Int32Array:
    """The array of a pass that is all padding, which is finite whatever is computed: each query sees a key."""
    array = np.zeros(shape.size, np.int32)
    columns: dict[str, Int32Array] = shape.cut(array)
    for name in ("slots", "context", "node_slots"):
        columns[name][:] = spare_slot
    columns["visible"][:, :, 0] = 1
    return array


class Tiling:
    """A plan of at least one token, cut into tiles; queries beyond a tile's last token repeat that.

    ``in_place``: tell of committed keys as ranges.
    """

    def __init__(self, plan: ForwardPlan, *, in_place: bool) -> None:
        fed = np.diff(plan.row_offsets)
        queries, counts = tiles_for(fed, in_place=in_place)
        self._plan = plan
        self._row = np.repeat(np.arange(plan.num_rows), counts)  # [tiles]
        within = np.arange(len(self._row)) - np.repeat(np.cumsum(counts) - counts, counts)
        self._start = plan.row_offsets[self._row] + within * queries  # [tiles] among the T
        last = np.minimum(self._start + queries, plan.row_offsets[self._row + 1]) - 1
        self._tokens = np.minimum(self._start[:, None] + np.arange(queries), last[:, None])  # [tiles, queries]
        self._ranges = key_ranges(*_committed(plan)).of_each(self._row) if in_place else None
        self._widths = np.diff(plan.context_offsets) - plan.committed + fed  # [rows] of uncommitted keys

    @property
    def shape(self) -> Shape:
        """The smallest that holds it."""
        return Shape(
            tokens=self._plan.num_tokens,
            tiles=len(self._row),
            queries=self._tokens.shape[1],
            keys=words(int(self._plan.committed.max())) if self._ranges is None else 0,
            nodes=words(int(self._widths.max())),
            logits=len(self._plan.logit_rows),
            ranges=0 if self._ranges is None else len(self._ranges.owner),
        )

    def pack(self, shape: Shape, *, spare_slot: int) -> Int32Array:
        """The array for a shape that holds it; ``spare_slot`` is written by padding alone."""
        array = blank(shape, spare_slot=spare_slot)
        columns: dict[str, Int32Array] = shape.cut(array)
        plan, num_tokens, num_tiles = self._plan, self._plan.num_tokens, len(self._row)
        columns["token_ids"][:num_tokens] = plan.token_ids
        columns["positions"][:num_tokens] = plan.positions
        columns["slots"][:num_tokens] = plan.slots
        columns["place"][:num_tokens] = self._place()
        columns["wanted"][: len(plan.logit_rows)] = plan.logit_rows
        columns["queries"][:num_tiles] = self._tokens
        columns["committed"][:num_tiles] = plan.committed[self._row]
        if self._ranges is not None:
            fill_ranges(columns, self._ranges)
        else:
            for tile, row in enumerate(self._row.tolist()):
                start, length = plan.context_offsets[row], plan.committed[row]
                columns["context"][tile, :length] = plan.context_slots[start : start + length]
        slots = _nodes(plan, plan.context_slots, plan.slots, spare_slot, shape.nodes)
        positions = _nodes(plan, plan.context_positions, plan.positions, 0, shape.nodes)
        columns["node_slots"][:num_tiles] = slots[self._row]
        columns["node_positions"][:num_tiles] = positions[self._row]
        bits = np.packbits(self._visible(shape.nodes), axis=2, bitorder="little")
        columns["visible"][:num_tiles] = bits.view("<i4")
        return array

    def _place(self) -> IntArray:
        """Index of each token's query among all tiles': [T]."""
        sizes = np.diff(self._start, append=self._plan.num_tokens)
        skipped = np.arange(len(self._row)) * self._tokens.shape[1] - self._start
        place: IntArray = np.arange(self._plan.num_tokens) + np.repeat(skipped, sizes)
        return place

    def _visible(self, nodes: int) -> npt.NDArray[np.bool_]:
        """Which uncommitted keys each query sees: bool [tiles, queries, nodes]."""
        plan, row, node = self._plan, self._row, np.arange(nodes)
        local = self._tokens - plan.row_offsets[row][:, None]  # [tiles, queries] among the row's fed tokens
        written = (self._widths - np.diff(plan.row_offsets))[row]
        visible: npt.NDArray[np.bool_] = node <= (local + written[:, None])[..., None]
        is_tree = (plan.mask_offsets[1:] > plan.mask_offsets[:-1])[row]
        if is_tree.any():
            widths = self._widths[row[is_tree]][:, None]
            lines = plan.mask_offsets[row[is_tree]][:, None] + local[is_tree] * widths
            places = np.minimum(lines[..., None] + node, len(plan.masks) - 1)
            visible[is_tree] = plan.masks[places] & (node < widths[..., None])
        return visible


def _committed(plan: ForwardPlan) -> tuple[Int32Array, IntArray]:
    """Slots of all rows' committed keys, and how many each row has."""
    if np.array_equal(plan.committed, np.diff(plan.context_offsets)):  # no row has written nodes
        return plan.context_slots, plan.committed
    index = np.arange(len(plan.context_slots))
    ends = np.repeat(plan.context_offsets[:-1] + plan.committed, np.diff(plan.context_offsets))
    return plan.context_slots[index < ends], plan.committed


def _nodes(plan: ForwardPlan, of_context: Int32Array, of_fed: Int32Array, padding: int, width: int) -> Int32Array:
    """A column of each row's uncommitted keys, written ones first: [rows, width]."""
    table = np.full((plan.num_rows, width), padding, np.int32)
    for row, (committed, end, start, stop) in enumerate(
        zip(
            (plan.context_offsets[:-1] + plan.committed).tolist(),
            plan.context_offsets[1:].tolist(),
            plan.row_offsets[:-1].tolist(),
            plan.row_offsets[1:].tolist(),
            strict=True,
        )
    ):
        written = end - committed
        table[row, :written] = of_context[committed:end]
        table[row, written : written + stop - start] = of_fed[start:stop]
    return table
