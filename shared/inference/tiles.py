"""A forward plan as one array of int32, cut into tiles, for devices that compute all rows in one call.

A tile is up to `TILE` consecutive fed tokens of one row with the keys they may see: the row's committed context,
and its uncommitted nodes under a mask. All tiles of a pass have the same shape, so whatever a plan needs fits
every larger `Shape` too: what is too much is padding, which nobody reads and which writes to a slot of its own.
That is what makes passes of a fixed shape possible.

Numpy only.
"""

from __future__ import annotations

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
    tiles = _Tiles.of(plan, shape.queries)
    count = len(tiles.row)
    columns["place"][:num_tokens] = tiles.place(num_tokens)
    columns["queries"][:count] = tiles.tokens
    columns["bounds"][:count] = tiles.start
    columns["committed"][:count] = plan.committed[tiles.row]
    has_context = plan.committed > 0
    first_keys = np.zeros(plan.num_rows, np.int32)
    first_keys[has_context] = plan.context_slots[plan.context_offsets[:-1][has_context]]
    columns["first_keys"][:count] = first_keys[tiles.row]
    if shape.keys:
        for tile, row in enumerate(tiles.row.tolist()):
            start, length = plan.context_offsets[row], plan.committed[row]
            columns["context"][tile, :length] = plan.context_slots[start : start + length]
    node_slots = _nodes(plan, plan.context_slots, plan.slots, spare_slot, shape.nodes)
    node_positions = _nodes(plan, plan.context_positions, plan.positions, 0, shape.nodes)
    columns["node_slots"][:count], columns["node_positions"][:count] = (
        node_slots[tiles.row],
        node_positions[tiles.row],
    )
    columns["visible"][:, :, 0] = 1
    bits = np.packbits(_visible(plan, tiles, shape.nodes), axis=2, bitorder="little")
    columns["visible"][:count] = bits.view("<i4")
    return array


@dataclass(frozen=True, slots=True)
class _Tiles:
    """A plan's tiles in order; queries beyond a tile's last token repeat that."""

    row: IntArray  # [tiles]
    start: IntArray  # [tiles] first of its tokens among the T
    tokens: IntArray  # [tiles, queries] of the T

    @staticmethod
    def of(plan: ForwardPlan, queries: int) -> _Tiles:
        counts = -(-np.diff(plan.row_offsets) // queries)
        row = np.repeat(np.arange(plan.num_rows), counts)
        within = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        start = plan.row_offsets[row] + within * queries
        last = np.minimum(start + queries, plan.row_offsets[row + 1]) - 1
        return _Tiles(row, start, np.minimum(start[:, None] + np.arange(queries), last[:, None]))

    def place(self, num_tokens: int) -> IntArray:
        """Index of each token's query among all tiles': [num_tokens]."""
        sizes = np.diff(self.start, append=num_tokens)
        skipped = np.arange(len(self.row)) * self.tokens.shape[1] - self.start
        place: IntArray = np.arange(num_tokens) + np.repeat(skipped, sizes)
        return place


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


def _visible(plan: ForwardPlan, tiles: _Tiles, nodes: int) -> npt.NDArray[np.bool_]:
    """Which uncommitted keys each query sees: bool [tiles, queries, nodes]."""
    local = tiles.tokens - plan.row_offsets[tiles.row][:, None]  # [tiles, queries] among the row's fed tokens
    widths = np.diff(plan.context_offsets) - plan.committed + np.diff(plan.row_offsets)
    written = widths - np.diff(plan.row_offsets)
    node = np.arange(nodes)
    visible = node <= (local + written[tiles.row][:, None])[..., None]
    is_tree = (plan.mask_offsets[1:] > plan.mask_offsets[:-1])[tiles.row]
    if is_tree.any():
        row = tiles.row[is_tree]
        lines = plan.mask_offsets[row][:, None] + local[is_tree] * widths[row][:, None]
        places = np.minimum(lines[..., None] + node, len(plan.masks) - 1)
        visible[is_tree] = plan.masks[places] & (node < widths[row][:, None, None])
    return visible


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
