"""Forward passes over tiles: one packed copy to the device, then nothing but launches."""

from __future__ import annotations

import torch

from shared.inference.decoder import Decoder
from shared.inference.kv import KVCache
from shared.inference.plan import ForwardPlan
from shared.inference.tiled import InPlace, TiledPass
from shared.inference.tiles import contexts_lie_in_place, pack, shape_of
from shared.inference.upload import upload


class TiledForward:
    """Runs plans on a decoder. ``in_place`` is taken for passes whose every context can be read where it lies."""

    def __init__(self, decoder: Decoder, cache: KVCache, in_place: InPlace | None) -> None:
        self._decoder = decoder
        self._cache = cache
        self._in_place = in_place

    def run(self, plan: ForwardPlan) -> torch.Tensor:
        """Writes the KV of the plan's tokens, at least one, and returns the wanted logits."""
        last_position = int(plan.positions.max())
        in_place = self._in_place if self._is_in_place(plan, last_position) else None
        shape = shape_of(plan, in_place=in_place is not None)
        array = upload(pack(plan, shape, spare_slot=self._cache.num_slots), self._cache.data.device)
        rows = TiledPass(
            shape,
            array,
            self._cache.data.dtype,
            last_position=last_position,
            in_place=in_place,
            max_keys=max(1, int(plan.committed.max())),
        )
        return self._decoder.forward(rows.token_ids, rows.positions, rows, self._cache)

    def _is_in_place(self, plan: ForwardPlan, last_position: int) -> bool:
        window = self._decoder.window
        return (
            self._in_place is not None
            and (window is None or last_position < window)
            and contexts_lie_in_place(plan)
        )
