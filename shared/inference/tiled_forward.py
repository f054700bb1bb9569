"""Forward passes over tiles: one packed copy to the device, then launches, or the replay of a recorded pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import torch

from shared.inference.decoder import Decoder
from shared.inference.kv import KVCache
from shared.inference.plan import ForwardPlan, Int32Array
from shared.inference.recording import Recorder, Recordings, Work
from shared.inference.tiled import InPlace, TiledPass, unpacked
from shared.inference.tiles import Shape, Tiling, blank
from shared.inference.upload import upload, upload_into


@dataclass(frozen=True, slots=True)
class Device:
    """What passes over tiles run on. ``in_place``: the kernel for contexts that can be read where they lie."""

    decoder: Decoder
    cache: KVCache
    vocab_size: int
    context_limit: int
    in_place: InPlace | None

    @property
    def spare_slot(self) -> int:
        """Where padding goes."""
        return self.cache.num_slots

    @property
    def torch_device(self) -> torch.device:
        """Where the KV is."""
        return self.cache.data.device

    def kernel_for(self, last_position: int) -> InPlace | None:
        """The kernel, if no layer's window matters up to that position."""
        window = self.decoder.window
        return self.in_place if window is None or last_position < window else None

    def may_replay(self, in_place: InPlace | None, last_position: int) -> bool:
        """Whether a pass up to that position may be one of those recorded: all have the kernel if there is one."""
        return in_place is self.in_place and last_position < self.context_limit

    def forward(
        self,
        shape: Shape,
        columns: Mapping[str, torch.Tensor],
        in_place: InPlace | None,
        last_position: int,
        max_keys: int,
    ) -> torch.Tensor:
        """One pass over tiles on the device: writes their KV, returns the wanted logits."""
        rows = TiledPass(
            shape,
            columns,
            self.cache.data.dtype,
            last_position=last_position,
            in_place=in_place,
            max_keys=max_keys,
        )
        return self.decoder.forward(rows.token_ids, rows.positions, rows, self.cache)


@dataclass(frozen=True, slots=True)
class RecordedPass:
    """A replay and the tensor of int32 that it reads."""

    array: torch.Tensor
    replay: Work
    tables: torch.Tensor  # that the replay reads too: nobody else may have kept them

    def run(self, packed: Int32Array) -> None:
        """The replay for this input."""
        upload_into(self.array, packed)
        self.replay()


class TiledForward:
    """Runs plans: those for whose shape something is recorded are padded to it and replayed, others launched."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self._recordings = Recordings[Shape, RecordedPass]()
        self._logits = device.cache.data.new_empty(0)  # [most logits, vocab] of whatever was replayed last

    @property
    def num_recorded(self) -> int:
        """Shapes whose passes are replayed."""
        return len(self._recordings)

    def record(self, recorder: Recorder, shapes: Iterable[Shape]) -> None:
        """Have passes of these shapes replayed from now on. Their logits come in float32 or wider."""
        shapes = list(shapes)
        dtype = torch.promote_types(self.device.cache.data.dtype, torch.float32)
        size = (max((shape.logits for shape in shapes), default=0), self.device.vocab_size)
        self._logits = torch.zeros(size, dtype=dtype, device=self.device.torch_device)
        self._recordings = Recordings()  # what was recorded before has written elsewhere
        self._recordings.record(shapes, partial(self._record, recorder))

    def run(self, plan: ForwardPlan) -> torch.Tensor:
        """Writes the KV of the plan's tokens, at least one, and returns the wanted logits: until the next run."""
        device, last_position = self.device, int(plan.positions.max())
        in_place = device.kernel_for(last_position)
        tiling = Tiling(plan, in_place=in_place is not None)
        shape = tiling.shape
        recorded = self._recordings.holding(shape) if device.may_replay(in_place, last_position) else None
        if recorded is not None:
            bucket, replayed = recorded
            replayed.run(tiling.pack(bucket, spare_slot=device.spare_slot))
            return self._logits[: shape.logits]
        array = upload(tiling.pack(shape, spare_slot=device.spare_slot), device.torch_device)
        return device.forward(
            shape, unpacked(shape, array), in_place, last_position, max(1, int(plan.committed.max()))
        )

    def _record(self, recorder: Recorder, shape: Shape) -> RecordedPass:
        device, logits = self.device, self._logits[: shape.logits]
        array = upload(blank(shape, spare_slot=device.spare_slot), device.torch_device)

        def work() -> None:
            # As for the longest context: tables of positions are then as large as they ever get.
            columns, limit = unpacked(shape, array), device.context_limit
            logits.copy_(device.forward(shape, columns, device.in_place, limit - 1, limit))

        return RecordedPass(array, recorder.record(work), device.decoder.tables)
