"""What one forward pass computes, as plain arrays: any mix of prefill chunks and token trees.

A row is one sequence's part of the pass. Its nodes form a forest under the committed context: a prefill
chunk is a chain, a verification step is a tree, and a beam-search level is a tree of which the first nodes
are `written`, that is, already have their KV in the pool and are only attended to. Every fed node attends
to the whole committed context, to its ancestors and to itself.

Numpy only: the scheduler's process and, with tensor parallelism, the other ranks handle plans without torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]
IntArray = npt.NDArray[np.integer]
BoolArray = npt.NDArray[np.bool_]

_EMPTY: Int32Array = np.zeros(0, dtype=np.int32)
_NO_LINE = -(1 << 62)  # of a mask: so low that no node's place in it is one


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRow:
    """One sequence's nodes in a forward pass. With k committed tokens and m nodes:

    context: [k] slots of the committed tokens' KV, in order.
    tokens: [m] token ids.
    parents: [m] index of the parent node in this row, below the node's own; -1 follows the context.
    slots: [m] where each node's KV goes, or already is for the first `written` nodes.
    logits: [l] nodes whose logits are wanted, in the order wanted, none of them written.
    written: number of leading nodes that are attended to but not fed.
    """

    context: IntArray
    tokens: IntArray
    parents: IntArray
    slots: IntArray
    logits: IntArray
    written: int = 0


def chain_row(context: IntArray, tokens: IntArray, slots: IntArray, *, last_logits: bool) -> PlanRow:
    """A prefill chunk or a decode step: `tokens` in order, with logits of the last one or of none."""
    size = len(tokens)
    return PlanRow(
        context=context,
        tokens=tokens,
        parents=np.arange(-1, size - 1, dtype=np.int32),
        slots=slots,
        logits=np.array([size - 1], dtype=np.int32) if last_logits else _EMPTY,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardPlan:
    """A packed forward pass over T fed tokens of R rows, with logits for L of them.

    Row r feeds `row_offsets[r]:row_offsets[r+1]`. Its keys are `context_slots[context_offsets[r]:
    context_offsets[r+1]]` followed by its fed tokens' slots, in this order. A fed token sees the first
    `committed[r]` keys; which of the others it sees is row r's mask (`mask_of`): bool
    [fed, keys - committed], or None where the row is causal, the common case of chains.
    """

    token_ids: Int32Array  # [T]
    positions: Int32Array  # [T]
    slots: Int32Array  # [T]
    row_offsets: Int32Array  # [R+1]
    context_offsets: Int32Array  # [R+1]
    context_slots: Int32Array  # [sum of context lengths, written nodes included]
    context_positions: Int32Array  # like context_slots
    committed: Int32Array  # [R]
    masks: BoolArray  # [sum of fed * (keys - committed) over rows that are not causal]
    mask_offsets: npt.NDArray[np.int64]  # [R+1]; empty range: causal
    logit_rows: Int32Array  # [L] indices into the T fed tokens
    logit_offsets: Int32Array  # [R+1] row r's logits are logit_offsets[r]:logit_offsets[r+1]

    @property
    def num_rows(self) -> int:
        return len(self.committed)

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)

    def mask_of(self, row: int) -> BoolArray | None:
        """Row's visibility of its uncommitted keys, bool [fed, keys - committed]; None if causal."""
        start, stop = self.mask_offsets[row : row + 2]
        if start == stop:
            return None
        fed = self.row_offsets[row + 1] - self.row_offsets[row]
        return self.masks[start:stop].reshape(fed, -1)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanColumns:
    """All rows of a forward pass as `PlanRow` describes them, one after the other: R rows with N nodes in all.

    Who has many rows and knows them as columns lays them out with a few calls instead of a few for each.
    """

    context: Int32Array  # [sum of context lengths, written nodes' slots included]
    committed: Int64Array  # [R] tokens of each context, without written nodes
    sizes: Int64Array  # [R] nodes
    written: Int64Array  # [R]
    tokens: Int32Array  # [N]
    parents: Int64Array  # [N] within the row
    slots: Int32Array  # [N]
    logits: Int64Array  # [L] within the row
    logit_counts: Int64Array  # [R]


def build_plan(rows: Sequence[PlanRow]) -> ForwardPlan:
    """Packs rows into one forward pass, in order. Every row must feed at least one node.

    Raises ValueError for columns of different lengths, parents that do not precede their nodes, and
    logits asked of nodes that are not fed. The same slot twice is not looked for. Trees cost one numpy
    round per level, so feed a long chain in a pass before the tree below it.
    """
    if not all(len(row.tokens) == len(row.parents) == len(row.slots) for row in rows):
        raise ValueError("a row's tokens, parents and slots differ in length")
    return pack_plan(
        PlanColumns(
            context=_concatenate([part for row in rows for part in (row.context, row.slots[: row.written])]),
            committed=_lengths([row.context for row in rows]),
            sizes=_lengths([row.tokens for row in rows]),
            written=np.array([row.written for row in rows], np.int64),
            tokens=_concatenate([row.tokens for row in rows]),
            parents=_concatenate([row.parents for row in rows]).astype(np.int64),
            slots=_concatenate([row.slots for row in rows]),
            logits=_concatenate([row.logits for row in rows]).astype(np.int64),
            logit_counts=_lengths([row.logits for row in rows]),
        )
    )


def pack_plan(rows: PlanColumns) -> ForwardPlan:
    """`build_plan` of rows that are laid out already; their columns must agree in length."""
    sizes, written, committed = rows.sizes, rows.written, rows.committed
    nodes = _Nodes.of(rows)
    _check(rows, nodes)
    depths, masks, mask_offsets = _closure(rows, nodes)
    positions = committed[nodes.row] + depths
    row_offsets = _offsets(sizes - written)
    token_ids, fed_positions, slots, written_positions = rows.tokens, positions, rows.slots, positions[:0]
    if written.any():
        fed = nodes.local >= written[nodes.row]
        token_ids, fed_positions, slots, written_positions = (
            rows.tokens[fed],
            positions[fed],
            rows.slots[fed],
            positions[~fed],
        )
    return ForwardPlan(
        token_ids=token_ids,
        positions=fed_positions.astype(np.int32),
        slots=slots,
        row_offsets=row_offsets.astype(np.int32),
        context_offsets=_offsets(committed + written).astype(np.int32),
        context_slots=rows.context,
        context_positions=_context_positions(committed, written, written_positions),
        committed=committed.astype(np.int32),
        masks=masks,
        mask_offsets=mask_offsets,
        logit_rows=(rows.logits + (row_offsets[:-1] - written).repeat(rows.logit_counts)).astype(np.int32),
        logit_offsets=_offsets(rows.logit_counts).astype(np.int32),
    )


@dataclass(frozen=True, slots=True)
class _Nodes:
    """Where all rows' nodes are, written ones included, one after the other: N in all."""

    starts: Int64Array  # [R+1] each row's first node
    row: Int64Array  # [N]
    local: Int64Array  # [N] index within the row

    @staticmethod
    def of(rows: PlanColumns) -> _Nodes:
        starts = _offsets(rows.sizes)
        row_of = np.arange(len(rows.sizes)).repeat(rows.sizes)
        return _Nodes(starts, row_of, np.arange(len(row_of)) - starts[row_of])


def _check(rows: PlanColumns, nodes: _Nodes) -> None:
    sizes, written = rows.sizes, rows.written
    if (written < 0).any() or (sizes <= written).any():
        raise ValueError("every row must feed at least one node")
    if (rows.parents < -1).any() or (rows.parents >= nodes.local).any():
        raise ValueError("a node's parent must be -1 or precede it")
    counts = rows.logit_counts
    if (rows.logits < written.repeat(counts)).any() or (rows.logits >= sizes.repeat(counts)).any():
        raise ValueError("logits are asked of a node that is not fed")


def _closure(rows: PlanColumns, nodes: _Nodes) -> tuple[Int64Array, BoolArray, Int64Array]:
    """Depths [N], and the packed ancestor masks with their offsets, of all rows at once.

    Every node climbs to its parent once per round, so the work is one numpy round per tree level. Chains,
    whose climb would be quadratic, are recognised first and need neither climb nor mask.
    """
    local, sizes = nodes.local, rows.sizes
    is_branch = rows.parents != local - 1
    if not is_branch.any():
        return local, np.zeros(0, dtype=np.bool_), np.zeros(len(sizes) + 1, dtype=np.int64)
    is_tree = np.logical_or.reduceat(is_branch, nodes.starts[:-1])
    widths = np.where(is_tree, sizes, 0)
    mask_offsets = _offsets((sizes - rows.written) * widths)
    masks = np.zeros(mask_offsets[-1], dtype=np.bool_)
    depths = local.copy()

    climbing = is_tree[nodes.row].nonzero()[0]
    depths[climbing] = -1
    query = local - rows.written[nodes.row]
    lines = mask_offsets[nodes.row] + query * widths[nodes.row]  # [N] where a fed node's mask line starts
    lines[query < 0] = _NO_LINE
    at, line = climbing, lines[climbing]
    up = rows.parents + nodes.starts[nodes.row]  # [N] where there is a parent
    while len(climbing):
        depths[climbing] += 1
        seen = line + local[at]
        masks[seen[seen >= 0]] = True
        has_parent = rows.parents[at] >= 0
        climbing, line, at = climbing[has_parent], line[has_parent], up[at[has_parent]]
    return depths, masks, mask_offsets


def _context_positions(committed: Int64Array, written: Int64Array, written_positions: Int64Array) -> Int32Array:
    lengths = committed + written
    offsets = _offsets(lengths)
    positions = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
    if len(written_positions):
        positions[positions >= np.repeat(committed, lengths)] = written_positions
    return positions.astype(np.int32)


def _concatenate(parts: Sequence[IntArray]) -> Int32Array:
    return np.concatenate([_EMPTY, *parts]).astype(np.int32, copy=False)


def _lengths(parts: Sequence[IntArray]) -> Int64Array:
    return np.array([len(part) for part in parts], np.int64)


def _offsets(counts: Int64Array) -> Int64Array:
    offsets = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets
