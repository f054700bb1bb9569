"""One step as rank 0 tells it to the other ranks: KV copies, then a forward plan, as bytes. Numpy only.

A header of lengths, then the columns: no objects, so there is nothing to parse. Both sides are processes of one
start: there is no version, and what does not add up is a bug.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.inference.plan import ForwardPlan, Int32Array

Bytes = npt.NDArray[np.uint8]
Moves = tuple[Int32Array, Int32Array]  # source and destination slots

_EMPTY: Int32Array = np.zeros(0, np.int32)
# Widest first, so that every column is aligned. A plan's masks travel as bits.
_PLAN: tuple[tuple[str, Any], ...] = (
    ("mask_offsets", np.int64),
    ("token_ids", np.int32),
    ("positions", np.int32),
    ("slots", np.int32),
    ("row_offsets", np.int32),
    ("context_offsets", np.int32),
    ("context_slots", np.int32),
    ("context_positions", np.int32),
    ("committed", np.int32),
    ("logit_rows", np.int32),
    ("logit_offsets", np.int32),
)
_MOVES: tuple[tuple[str, Any], ...] = (("sizes", np.int32), ("sources", np.int32), ("destinations", np.int32))
_TYPES = [np.dtype(kind) for _, kind in (*_PLAN, *_MOVES, ("masks", np.uint8))]
_HEADER = np.dtype(np.int64).itemsize * (
    len(_TYPES) + 2
)  # bytes in all, number of mask bits, each column's length


@dataclass(frozen=True, slots=True)
class Step:
    """``moves`` come first, one after the other; then the forward pass."""

    moves: Sequence[Moves]
    plan: ForwardPlan


def pack(step: Step) -> Bytes:
    """uint8 [n]; n is the first number in it."""
    plan = step.plan
    columns: list[npt.NDArray[Any]] = [getattr(plan, name) for name, _ in _PLAN]
    columns.append(np.array([len(source) for source, _ in step.moves], np.int32))
    columns.append(np.concatenate([_EMPTY, *(source for source, _ in step.moves)]))
    columns.append(np.concatenate([_EMPTY, *(destination for _, destination in step.moves)]))
    columns.append(np.packbits(plan.masks))
    parts = [
        np.ascontiguousarray(column, dtype).view(np.uint8) for column, dtype in zip(columns, _TYPES, strict=True)
    ]
    header = np.array([_HEADER + sum(map(len, parts)), len(plan.masks), *map(len, columns)], np.int64)
    return np.concatenate([header.view(np.uint8), *parts])


def packed_size(begin: Bytes) -> int:
    """Bytes of the step that ``begin``, at least its first 8 bytes, belongs to."""
    return int(begin[:8].view(np.int64)[0])


def unpack(packed: Bytes) -> Step:
    """The step, in arrays that are views of ``packed``."""
    _, num_masks, *lengths = packed[:_HEADER].view(np.int64).tolist()
    columns, at = [], _HEADER
    for length, dtype in zip(lengths, _TYPES, strict=True):
        end = at + length * dtype.itemsize
        columns.append(packed[at:end].view(dtype))
        at = end
    *of_plan, sizes, sources, destinations, masks = columns
    plan = ForwardPlan(
        masks=np.unpackbits(masks, count=num_masks).view(np.bool_),
        **{name: column for (name, _), column in zip(_PLAN, of_plan, strict=True)},
    )
    ends = np.cumsum(sizes)[:-1]
    moves = zip(np.split(sources, ends), np.split(destinations, ends), strict=True) if len(sizes) else ()
    return Step(list(moves), plan)
