"""Forward passes over tiles: one packed copy to the device, then launches, or the replay of a recorded pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch

from shared.inference.buckets import Buckets
from shared.inference.decoder import Decoder
from shared.inference.kv import KVCache
from shared.inference.plan import ForwardPlan, Int32Array
from shared.inference.recording import Kept, Recorder, Work
from shared.inference.tiled import InPlace, TiledPass, unpacked
from shared.inference.tiles import Shape, Tiling
from shared.inference.upload import upload, upload_into

MAX_RECORDED_TOKENS = 512  # fed in one pass: longer ones keep the device busy however they are launched
MAX_RECORDED = 96  # shapes; more than the sweep at the start has


@dataclass(frozen=True, slots=True)
class Device:
    """What passes over tiles run on. ``in_place``: the kernel for contexts that can be read where they lie."""

    decoder: Decoder
    cache: KVCache
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
class Recorded:
    """A replay and the tensor of int32 that it reads."""

    array: torch.Tensor
    replay: Work
    tables: torch.Tensor  # that the replay reads too: nobody else may have kept them

    def run(self, packed: Int32Array) -> torch.Tensor:
        """The replay's result for this input."""
        upload_into(self.array, packed)
        return self.replay()


class TiledForward:
    """Runs plans.

    With a ``recorder`` passes are padded to one of few shapes and replayed from their second time on. What is
    larger than all shapes, or goes beyond what the model was made for, is launched as ever.
    """

    def __init__(self, device: Device, recorder: Recorder | None) -> None:
        self._device = device
        self._recorder = recorder
        self._buckets = Buckets(MAX_RECORDED_TOKENS, device.context_limit)
        self._kept = Kept[Recorded](MAX_RECORDED)

    @property
    def num_recorded(self) -> int:
        """Shapes whose passes are replayed."""
        return len(self._kept)

    def run(self, plan: ForwardPlan) -> torch.Tensor:
        """Writes the KV of the plan's tokens, at least one, and returns the wanted logits: until the next run."""
        device, last_position = self._device, int(plan.positions.max())
        in_place = device.kernel_for(last_position)
        tiling = Tiling(plan, in_place=in_place is not None)
        shape = tiling.shape
        bucket = self._buckets.of(shape)
        if self._recorder is not None and bucket is not None and last_position < device.context_limit:
            packed = tiling.pack(bucket, spare_slot=device.spare_slot)
            recorded = self._kept.get(bucket, partial(self._record, self._recorder, packed, bucket, in_place))
            if recorded is not None:
                return recorded.run(packed)[: len(plan.logit_rows)]
        array = upload(tiling.pack(shape, spare_slot=device.spare_slot), device.torch_device)
        return device.forward(
            shape, unpacked(shape, array), in_place, last_position, max(1, int(plan.committed.max()))
        )

    def _record(self, recorder: Recorder, packed: Int32Array, bucket: Shape, in_place: InPlace | None) -> Recorded:
        """As for the longest context: tables of positions are then as large as they ever get."""
        device, limit = self._device, self._device.context_limit
        array = upload(packed.copy(), device.torch_device)

        def work() -> torch.Tensor:
            return device.forward(bucket, unpacked(bucket, array), in_place, limit - 1, limit)

        return Recorded(array, recorder.record(work), device.decoder.tables)
