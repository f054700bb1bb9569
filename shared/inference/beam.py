"""All levels of a beam search on the device (arXiv 2501.12162, algorithm 2, step 1): one copy there, one back.

Feed what the contexts lack; then, level by level, keep the ``width`` best children by path probability of the
level above, and feed them below their ancestors. Nothing is decided on the host, so all of it can be recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from shared.inference.buckets import Buckets, ranges_for, step
from shared.inference.plan import ForwardPlan, Int32Array
from shared.inference.recording import Kept, Recorder
from shared.inference.rounds import BeamRow, Beams, Round, RoundShape
from shared.inference.tiled import InPlace, unpacked
from shared.inference.tiled_forward import MAX_RECORDED_TOKENS, Device, Recorded
from shared.inference.tiles import Shape
from shared.inference.upload import upload

# Tokens that a context usually lacks: the one drawn last, and an accepted leaf. Rounds with fewer share a shape.
USUAL_PENDING = 2
FEW_PENDING = 8
MAX_RECORDED = 32  # rounds: each is as large as its depth in passes


class BeamSearch:
    """Runs whole rounds; with a ``recorder`` they are padded and replayed as `TiledForward`'s passes are."""

    def __init__(self, device: Device, recorder: Recorder | None) -> None:
        self._device = device
        self._recorder = recorder
        self._buckets = Buckets(MAX_RECORDED_TOKENS, device.context_limit)
        self._kept = Kept[Recorded](MAX_RECORDED)

    @property
    def num_recorded(self) -> int:
        """Rounds that are replayed."""
        return len(self._kept)

    def run(self, plan: ForwardPlan, rows: Sequence[BeamRow], *, width: int, depth: int) -> Beams:
        """The candidate levels of each row; ``plan`` feeds the end of each context and wants its last logits.

        Writes the KV of all that is fed. ``width`` is at most the vocabulary.
        """
        device = self._device
        last_position = max(len(row.context) for row in rows) + depth - 2
        in_place = device.kernel_for(last_position)
        beams = Round(
            plan, rows, width=width, depth=depth, in_place=in_place is not None, fewest_queries=FEW_PENDING
        )
        result = self._replayed(beams, in_place) if last_position < device.context_limit else None
        if result is None:
            array = upload(beams.pack(beams.shape, spare_slot=device.spare_slot), device.torch_device)
            result = expand(device, beams.shape, array, in_place, last_position)
        return _beams(result.cpu().numpy(), len(rows))

    def _replayed(self, beams: Round, in_place: InPlace | None) -> torch.Tensor | None:
        """The round by a replay; None where it has to be launched."""
        shape = beams.shape
        feeding = self._buckets.of(shape.feeding)
        if self._recorder is None or feeding is None or shape.rows * shape.width > MAX_RECORDED_TOKENS:
            return None
        num_rows = step(shape.rows)
        num_tokens = max(feeding.tokens, step(USUAL_PENDING * num_rows))
        bucket = replace(
            shape,
            feeding=replace(feeding, tokens=num_tokens, logits=num_rows),
            rows=num_rows,
            keys=self._buckets.keys_for(shape.keys),
            ranges=ranges_for(shape.ranges),
        )
        packed = beams.pack(bucket, spare_slot=self._device.spare_slot)
        recorded = self._kept.get(bucket, partial(self._record, self._recorder, packed, bucket, in_place))
        return None if recorded is None else recorded.run(packed)

    def _record(
        self, recorder: Recorder, packed: Int32Array, bucket: RoundShape, in_place: InPlace | None
    ) -> Recorded:
        array = upload(packed.copy(), self._device.torch_device)
        last_position = self._device.context_limit - 1
        work = partial(expand, self._device, bucket, array, in_place, last_position)
        return Recorded(array, recorder.record(work), self._device.decoder.tables)


def expand(
    device: Device, shape: RoundShape, array: torch.Tensor, in_place: InPlace | None, last_position: int
) -> torch.Tensor:
    """One round of what `Round.pack` filled: int32 [depth, 3, rows, width] of ids, parents and log-probabilities.

    The last are float32, bit by bit. Rows without nodes of their own at a level write to the spare slot.
    """
    feeding, columns = shape.cut(array)
    level, width = _level_shape(shape), shape.width
    logits = device.forward(
        shape.feeding, unpacked(shape.feeding, feeding), in_place, last_position, last_position + 1
    )
    logprobs, ids = _top(logits, width)  # [rows, width]
    parents = torch.zeros_like(ids)
    levels = [_line(ids, parents, logprobs)]

    every = _fixed_columns(level, array.device)
    node = torch.arange(shape.nodes, dtype=torch.int32, device=array.device)
    beam = torch.arange(width, dtype=torch.int32, device=array.device)
    node_positions = columns["committed"][:, None] + node // width
    visible = torch.zeros((shape.rows, width, shape.nodes), dtype=torch.bool, device=array.device)
    for fed in range(0, (shape.depth - 1) * width, width):
        visible = visible | (node == beam[:, None] + fed)  # ancestors so far, and itself
        at_level = {
            **every,
            **columns,
            "token_ids": ids.flatten(),
            "positions": node_positions[:, fed : fed + width].flatten(),
            "slots": columns["node_slots"][:, fed : fed + width].flatten(),
            "node_positions": node_positions,
            "visible": visible,
        }
        logits = device.forward(level, at_level, in_place, last_position, last_position + 1)
        child_logprobs, children = _top(logits, width)  # [rows * width, width]
        paths = (logprobs[..., None] + child_logprobs.view(shape.rows, width, width)).flatten(1)
        best = paths.sort(dim=1, descending=True, stable=True)  # equal paths keep the order of their parents
        logprobs, chosen = best.values[:, :width], best.indices[:, :width]
        ids, parents = children.view(shape.rows, -1).gather(1, chosen), chosen // width
        visible = visible.gather(1, parents[..., None].expand(-1, -1, shape.nodes))
        levels.append(_line(ids, parents, logprobs))
    return torch.stack(levels)


def _level_shape(shape: RoundShape) -> Shape:
    """Of the pass that feeds one level: a tile for each row."""
    num_tokens = shape.rows * shape.width
    return Shape(num_tokens, shape.rows, shape.width, shape.keys, shape.nodes, num_tokens, shape.ranges)


def _fixed_columns(level: Shape, device: torch.device) -> dict[str, torch.Tensor]:
    """What is the same at each level, every row's tokens being one tile."""
    tokens = torch.arange(level.tokens, device=device)
    return {"place": tokens, "wanted": tokens, "queries": tokens.view(level.tiles, -1)}


def _top(logits: torch.Tensor, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The likeliest tokens of each line of logits, as `ModelRunner.top` has them: log-probabilities and ids."""
    logprobs, ids = torch.topk(torch.log_softmax(logits.float(), dim=-1), width, dim=-1)
    return logprobs, ids.to(torch.int32)


def _line(ids: torch.Tensor, parents: torch.Tensor, logprobs: torch.Tensor) -> torch.Tensor:
    return torch.stack([ids, parents.to(torch.int32), logprobs.contiguous().view(torch.int32)])


def _beams(levels: npt.NDArray[np.int32], num_rows: int) -> Beams:
    ids, parents, logprobs = levels[:, :, :num_rows].swapaxes(0, 1)
    return Beams(ids, parents, np.ascontiguousarray(logprobs).view(np.float32))
