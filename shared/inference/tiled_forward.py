"""Forward passes over tiles: one packed copy to the device, then launches, or the replay of a recorded pass."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch

from shared.inference.buckets import Buckets
from shared.inference.decoder import Decoder
from shared.inference.kv import KVCache
from shared.inference.plan import ForwardPlan, Int32Array
from shared.inference.recording import Kept, Recorder, Work
from shared.inference.tiled import InPlace, TiledPass
from shared.inference.tiles import Shape, contexts_lie_in_place, pack, shape_of
from shared.inference.upload import upload, upload_into

MAX_RECORDED_TOKENS = 512  # fed in one pass: longer ones keep the device busy however they are launched
MAX_RECORDED = 96  # shapes; more than the sweep at the start has


@dataclass(frozen=True, slots=True)
class _Recorded:
    array: torch.Tensor  # int32 [shape.size], which the replay reads
    replay: Work


class TiledForward:
    """Runs plans on a decoder.

    ``in_place`` is taken for passes whose every context can be read where it lies. With a ``recorder`` passes are
    padded to one of few shapes and replayed from their second time on; larger ones are launched as ever.
    """

    def __init__(
        self,
        decoder: Decoder,
        cache: KVCache,
        *,
        context_limit: int,
        in_place: InPlace | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        self._decoder = decoder
        self._cache = cache
        self._context_limit = context_limit
        self._in_place = in_place
        self._recorder = recorder
        self._buckets = Buckets(MAX_RECORDED_TOKENS, context_limit)
        self._kept = Kept[_Recorded](MAX_RECORDED)

    @property
    def num_recorded(self) -> int:
        """Shapes whose passes are replayed."""
        return len(self._kept)

    def run(self, plan: ForwardPlan) -> torch.Tensor:
        """Writes the KV of the plan's tokens, at least one, and returns the wanted logits: until the next run."""
        last_position = int(plan.positions.max())
        in_place = self._in_place if self._is_in_place(plan, last_position) else None
        if self._recorder is not None:
            bucket = self._buckets.of(plan, in_place=in_place is not None)
            if bucket is not None:
                recorded = self._kept.get(bucket, partial(self._record, self._recorder, plan, bucket, in_place))
                if recorded is not None:
                    upload_into(recorded.array, self._packed(plan, bucket))
                    return recorded.replay()[: len(plan.logit_rows)]
        shape = shape_of(plan, in_place=in_place is not None)
        array = upload(self._packed(plan, shape), self._cache.data.device)
        return self._pass(shape, array, in_place, last_position, max(1, int(plan.committed.max())))

    def _record(self, recorder: Recorder, plan: ForwardPlan, bucket: Shape, in_place: InPlace | None) -> _Recorded:
        """As for the longest context: tables of positions are then as large as they ever get."""
        array = upload(self._packed(plan, bucket), self._cache.data.device)
        limit = self._context_limit
        return _Recorded(array, recorder.record(partial(self._pass, bucket, array, in_place, limit - 1, limit)))

    def _packed(self, plan: ForwardPlan, shape: Shape) -> Int32Array:
        return pack(plan, shape, spare_slot=self._cache.num_slots)

    def _pass(
        self, shape: Shape, array: torch.Tensor, in_place: InPlace | None, last_position: int, max_keys: int
    ) -> torch.Tensor:
        rows = TiledPass(
            shape,
            array,
            self._cache.data.dtype,
            last_position=last_position,
            in_place=in_place,
            max_keys=max_keys,
        )
        return self._decoder.forward(rows.token_ids, rows.positions, rows, self._cache)

    def _is_in_place(self, plan: ForwardPlan, last_position: int) -> bool:
        window = self._decoder.window
        return (
            self._in_place is not None
            and (window is None or last_position < window)
            and contexts_lie_in_place(plan)
        )
