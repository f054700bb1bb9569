"""All levels of a beam search on the device (arXiv 2501.12162, algorithm 2, step 1): two copies there, one back.

Feed what the contexts lack; then, level by level, keep the ``width`` best children by path probability of the
level above, and feed them below their ancestors. Nothing is decided on the host, and a level finds what it needs
where the one before has left it: so one recorded level serves rounds of any depth.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from shared.inference.plan import ForwardPlan
from shared.inference.recording import Recorder, Recordings, Work
from shared.inference.rounds import BeamRow, Beams, Levels, LevelShape, blank_levels
from shared.inference.tiled import InPlace
from shared.inference.tiled_forward import Device, TiledForward
from shared.inference.upload import download, upload, upload_into


class Beam:
    """A round on the device: what is known of it, and the next level. ``array`` is what `Levels.pack` has filled.

    Its passes read contexts with ``in_place``, or copy them, and go up to ``last_position``.
    """

    def __init__(
        self, device: Device, shape: LevelShape, array: torch.Tensor, in_place: InPlace | None, last_position: int
    ) -> None:
        self._device = device
        self._shape = shape
        self._columns = shape.cut(array)
        self._in_place = in_place
        self._last_position = last_position
        rows, width, nodes = shape.rows, shape.width, shape.nodes
        whole = partial(torch.zeros, device=array.device)
        tokens = torch.arange(rows * width, device=array.device)
        self._every = {"place": tokens, "wanted": tokens, "queries": tokens.view(rows, -1)}  # each row is one tile
        self._beam, self._node = torch.arange(width, device=array.device), torch.arange(nodes, device=array.device)
        self._num_fed = whole(1, dtype=torch.int64)  # levels
        self._ids = whole((rows, width), dtype=torch.int32)
        self._logprobs = whole((rows, width), dtype=torch.float32)
        self._visible = whole((rows, width, nodes), dtype=torch.bool)  # ancestors of each beam's newest node
        self.lines = whole((shape.depth, 3, rows, width), dtype=torch.int32)
        """Ids, parents and log-probabilities of each level; the last are float32, bit by bit."""

    def begin(self, logits: torch.Tensor) -> None:
        """The first level, from the logits [rows, vocab] of the contexts' ends; further rows are padding."""
        logprobs, ids = _top(logits, self._shape.width)
        self._num_fed.zero_()
        self._visible.zero_()
        self._ids[: len(ids)].copy_(ids)
        self._logprobs[: len(ids)].copy_(logprobs)
        self.lines[0].copy_(_line(self._ids, torch.zeros_like(self._ids), self._logprobs))

    def grow(self) -> None:
        """Feeds the newest level, and chooses the next one among its children.

        Rows without nodes of their own write to the spare slot.
        """
        rows, width = self._shape.rows, self._shape.width
        fed = self._num_fed * width + self._beam  # [width]
        visible = self._visible | (self._node == fed[:, None])  # ancestors, and itself
        positions = self._columns["committed"][:, None] + self._node // width
        columns = {
            **self._every,
            **self._columns,
            "token_ids": self._ids.flatten(),
            "positions": positions.index_select(1, fed).flatten(),
            "slots": self._columns["node_slots"].index_select(1, fed).flatten(),
            "node_positions": positions,
            "visible": visible,
        }
        logits = self._device.forward(
            self._shape.tiles, columns, self._in_place, self._last_position, self._last_position + 1
        )
        child_logprobs, children = _top(logits, width)  # [rows * width, width]
        paths = (self._logprobs[..., None] + child_logprobs.view(rows, width, width)).flatten(1)
        best = paths.sort(dim=1, descending=True, stable=True)  # equal paths keep the order of their parents
        chosen = best.indices[:, :width]
        parents = chosen // width
        self._ids.copy_(children.view(rows, -1).gather(1, chosen))
        self._logprobs.copy_(best.values[:, :width])
        self._visible.copy_(visible.gather(1, parents[..., None].expand(-1, -1, self._shape.nodes)))
        self._num_fed.add_(1)
        self.lines.index_copy_(0, self._num_fed, _line(self._ids, parents, self._logprobs)[None])


@dataclass(frozen=True, slots=True)
class RecordedBeam:
    """A round whose `Beam.grow` is replayed, with the tensor of int32 that it reads."""

    beam: Beam
    array: torch.Tensor
    grow: Work
    tables: torch.Tensor  # that the replay reads too: nobody else may have kept them


class BeamSearch:
    """Runs whole rounds: where a level of their shape is recorded they are padded to it and replayed."""

    def __init__(self, device: Device, forward: TiledForward) -> None:
        self._device = device
        self._forward = forward
        self._recordings = Recordings[LevelShape, RecordedBeam]()

    @property
    def num_recorded(self) -> int:
        """Shapes whose levels are replayed."""
        return len(self._recordings)

    def record(self, recorder: Recorder, shapes: Iterable[LevelShape]) -> None:
        """Have levels of these shapes replayed from now on."""
        self._recordings = Recordings()
        self._recordings.record(shapes, partial(self._record, recorder))

    def run(self, plan: ForwardPlan, rows: Sequence[BeamRow], *, width: int, depth: int) -> Beams:
        """The candidate levels of each row; ``plan`` feeds the end of each context and wants its last logits.

        Writes the KV of all that is fed. ``width`` is at most the vocabulary.
        """
        device = self._device
        last_position = max(len(row.context) for row in rows) + depth - 2
        in_place = device.kernel_for(last_position)
        levels = Levels(rows, width=width, depth=depth, in_place=in_place is not None)
        shape = levels.shape
        recorded = self._recordings.holding(shape) if device.may_replay(in_place, last_position) else None
        if recorded is not None:
            bucket, replayed = recorded
            upload_into(replayed.array, levels.pack(bucket, spare_slot=device.spare_slot))
            beam, grow = replayed.beam, replayed.grow
        else:
            array = upload(levels.pack(shape, spare_slot=device.spare_slot), device.torch_device)
            beam = Beam(device, shape, array, in_place, last_position)
            grow = beam.grow
        beam.begin(self._forward.run(plan))
        for _ in range(depth - 1):
            grow()
        return _beams(download(beam.lines[:depth]), len(rows))

    def _record(self, recorder: Recorder, shape: LevelShape) -> RecordedBeam:
        """As for the longest contexts: tables of positions are then as large as they ever get."""
        device = self._device
        array = upload(blank_levels(shape, spare_slot=device.spare_slot), device.torch_device)
        beam = Beam(device, shape, array, device.in_place, device.context_limit - 1)
        return RecordedBeam(beam, array, recorder.record(beam.grow), device.decoder.tables)


def _top(logits: torch.Tensor, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The likeliest tokens of each line of logits, as `ModelRunner.top` has them: log-probabilities and ids."""
    logprobs, ids = torch.topk(torch.log_softmax(logits.float(), dim=-1), width, dim=-1)
    return logprobs, ids.to(torch.int32)


def _line(ids: torch.Tensor, parents: torch.Tensor, logprobs: torch.Tensor) -> torch.Tensor:
    return torch.stack([ids, parents.to(torch.int32), logprobs.view(torch.int32)])


def _beams(levels: npt.NDArray[np.int32], num_rows: int) -> Beams:
    ids, parents, logprobs = levels[:, :, :num_rows].swapaxes(0, 1)
    return Beams(ids, parents, np.ascontiguousarray(logprobs).view(np.float32))
