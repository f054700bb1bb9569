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
IntArray = npt.NDArray[np.integer]
BoolArray = npt.NDArray[np.bool_]

_EMPTY: Int32Array = np.zeros(0, dtype=np.int32)


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


def build_plan(rows: Sequence[PlanRow]) -> ForwardPlan:
    """Packs rows into one forward pass, in order. Every row must feed at least one node.

    Raises ValueError for columns of different lengths, parents that do not precede their nodes, and
    logits asked of nodes that are not fed. The same slot twice is not looked for. Trees cost one numpy
    round per level, so feed a long chain in a pass before the tree below it.
    """
    sizes = np.fromiter((len(row.tokens) for row in rows), np.int64, len(rows))
    written = np.fromiter((row.written for row in rows), np.int64, len(rows))
    committed = np.fromiter((len(row.context) for row in rows), np.int64, len(rows))
    logit_counts = np.fromiter((len(row.logits) for row in rows), np.int64, len(rows))
    starts = _offsets(sizes)
    nodes = _Nodes.of(rows, sizes, starts)
    logits = _concatenate([row.logits for row in rows]).astype(np.int64)
    _check(nodes, sizes, written, logits, np.repeat(np.arange(len(rows)), logit_counts))

    depths, masks, mask_offsets = _closure(nodes, sizes, written, starts)
    positions = committed[nodes.row] + depths
    fed = nodes.local >= written[nodes.row]
    row_offsets = _offsets(sizes - written)
    context = _concatenate([part for row in rows for part in (row.context, row.slots[: row.written])])
    return ForwardPlan(
        token_ids=_concatenate([row.tokens for row in rows])[fed],
        positions=positions[fed].astype(np.int32),
        slots=nodes.slots[fed],
        row_offsets=row_offsets.astype(np.int32),
        context_offsets=_offsets(committed + written).astype(np.int32),
        context_slots=context,
        context_positions=_context_positions(committed, written, positions[~fed]),
        committed=committed.astype(np.int32),
        masks=masks,
        mask_offsets=mask_offsets,
        logit_rows=(logits + np.repeat(row_offsets[:-1] - written, logit_counts)).astype(np.int32),
        logit_offsets=_offsets(logit_counts).astype(np.int32),
    )


@dataclass(frozen=True, slots=True)
class _Nodes:
    """All rows' nodes, written ones included, one after the other: N in all."""

    row: npt.NDArray[np.int64]  # [N]
    local: npt.NDArray[np.int64]  # [N] index within the row
    parents: npt.NDArray[np.int64]  # [N] index within the row
    slots: Int32Array  # [N]

    @staticmethod
    def of(rows: Sequence[PlanRow], sizes: npt.NDArray[np.int64], starts: npt.NDArray[np.int64]) -> _Nodes:
        parents = _concatenate([row.parents for row in rows]).astype(np.int64)
        slots = _concatenate([row.slots for row in rows])
        row_of = np.repeat(np.arange(len(rows)), sizes)
        columns_agree = all(len(row.tokens) == len(row.parents) == len(row.slots) for row in rows)
        if not columns_agree:
            raise ValueError("a row's tokens, parents and slots differ in length")
        return _Nodes(row_of, np.arange(len(row_of)) - starts[row_of], parents, slots)


def _check(
    nodes: _Nodes,
    sizes: npt.NDArray[np.int64],
    written: npt.NDArray[np.int64],
    logits: npt.NDArray[np.int64],
    logit_row: npt.NDArray[np.int64],
) -> None:
    if np.any(written < 0) or np.any(sizes <= written):
        raise ValueError("every row must feed at least one node")
    if np.any(nodes.parents < -1) or np.any(nodes.parents >= nodes.local):
        raise ValueError("a node's parent must be -1 or precede it")
    if np.any(logits < written[logit_row]) or np.any(logits >= sizes[logit_row]):
        raise ValueError("logits are asked of a node that is not fed")


def _closure(
    nodes: _Nodes,
    sizes: npt.NDArray[np.int64],
    written: npt.NDArray[np.int64],
    starts: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.int64], BoolArray, npt.NDArray[np.int64]]:
    """Depths [N], and the packed ancestor masks with their offsets, of all rows at once.

    Every node climbs to its parent once per round, so the work is one numpy round per tree level. Chains,
    whose climb would be quadratic, are recognised first and need neither climb nor mask.
    """
    is_branch = nodes.parents != nodes.local - 1
    if not is_branch.any():
        return nodes.local, np.zeros(0, dtype=np.bool_), np.zeros(len(sizes) + 1, dtype=np.int64)
    is_tree = np.logical_or.reduceat(is_branch, starts[:-1])
    widths = np.where(is_tree, sizes, 0)
    mask_offsets = _offsets((sizes - written) * widths)
    masks = np.zeros(mask_offsets[-1], dtype=np.bool_)
    depths = nodes.local.copy()

    climbing = np.flatnonzero(is_tree[nodes.row])
    depths[climbing] = -1
    at = climbing
    query = nodes.local - written[nodes.row]
    base = mask_offsets[nodes.row] + query * widths[nodes.row]  # [N] where a fed node's mask line starts
    while len(climbing):
        depths[climbing] += 1
        visible = query[climbing] >= 0
        masks[base[climbing[visible]] + nodes.local[at[visible]]] = True
        has_parent = nodes.parents[at] >= 0
        climbing, at = climbing[has_parent], at[has_parent]
        at = starts[nodes.row[at]] + nodes.parents[at]
    return depths, masks, mask_offsets


def _context_positions(
    committed: npt.NDArray[np.int64], written: npt.NDArray[np.int64], written_positions: npt.NDArray[np.int64]
) -> Int32Array:
    lengths = committed + written
    offsets = _offsets(lengths)
    positions = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
    positions[positions >= np.repeat(committed, lengths)] = written_positions
    return positions.astype(np.int32)


def _concatenate(parts: Sequence[IntArray]) -> Int32Array:
    return np.concatenate([_EMPTY, *parts]).astype(np.int32, copy=False)


def _offsets(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    offsets = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets
