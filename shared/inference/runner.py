"""Runs forward plans on a causal language model with its own KV pool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedModel

from shared.inference.beam import BeamSearch
from shared.inference.buckets import Load, level_shapes, pass_shapes
from shared.inference.decoder import Decoder
from shared.inference.flash import flash_in_place
from shared.inference.kv import KVCache
from shared.inference.plan import ForwardPlan, Int32Array
from shared.inference.recording import Recorder
from shared.inference.rounds import BeamRow, Beams
from shared.inference.rows import PackedRows
from shared.inference.sharding import Rank
from shared.inference.tiled import InPlace
from shared.inference.tiled_forward import Device, TiledForward
from shared.inference.upload import download, upload


class ModelRunner:
    """A model and the KV of everything it has read; the only place where plans meet tensors.

    Takes the model's weights over: the model is of no use afterwards. `vocab_size` cuts the logits to the leading
    ids, for models whose embedding is padded beyond the tokenizer's vocabulary. ``rank``: the model is that rank's
    part (`shard_loading`), and the others run the same plans at the same time. ``tiled``: whether attention takes
    all rows in one call; None: as the device likes it. ``in_place`` replaces the kernel that reads contexts where
    they lie. ``recorded``: whether such passes can be recorded, None: on CUDA; never those of ranks, who talk to
    each other meanwhile.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        num_slots: int,
        *,
        vocab_size: int | None = None,
        rank: Rank | None = None,
        tiled: bool | None = None,
        in_place: InPlace | None = None,
        recorded: bool | None = None,
    ) -> None:
        is_tiled = model.device.type != "cpu" if tiled is None else tiled
        self.vocab_size: int = min(vocab_size or model.config.vocab_size, model.config.vocab_size)
        self.context_limit: int = model.config.max_position_embeddings
        self.eos_token_ids: tuple[int, ...] = _eos_token_ids(model)
        self.cache = KVCache(model.config, num_slots, model.dtype, model.device, spare=int(is_tiled))
        self._decoder = Decoder(
            model,
            vocab_size=self.vocab_size,
            reduce=None if rank is None else rank.sum,
            gather=None if rank is None else rank.gather,
        )
        self._may_record = rank is None and (model.device.type == "cuda" if recorded is None else recorded)
        self._tiled: TiledForward | None = None
        self._beams: BeamSearch | None = None
        if is_tiled:
            kernel = in_place or flash_in_place(model.dtype, model.device, self._decoder.head_dim)
            self._prepare(Device(self._decoder, self.cache, self.vocab_size, self.context_limit, kernel))

    def resize(self, num_slots: int) -> None:
        """KV of so many slots instead. What was read is forgotten, and recorded passes, which used the old KV."""
        if self._tiled is not None:
            self._prepare(self._tiled.device)
        self.cache.resize(num_slots)

    def _prepare(self, device: Device) -> None:
        self._tiled = TiledForward(device)
        self._beams = BeamSearch(device, self._tiled)

    @property
    def num_recorded(self) -> int:
        """Shapes of passes, and of levels of whole rounds, that are replayed."""
        return sum(part.num_recorded for part in (self._tiled, self._beams) if part is not None)

    @torch.inference_mode()
    def record(self, load: Load, *, only_largest: bool = False) -> None:
        """Records what such a load usually brings, once and for all; nothing where this runner cannot.

        Takes about a tenth of a second for each shape. ``only_largest``: one, which needs as much memory as all.
        """
        if self._tiled is None or self._beams is None or not self._may_record:
            return
        in_place = self._tiled.device.in_place is not None
        passes, levels = pass_shapes(load, in_place=in_place), level_shapes(load, in_place=in_place)
        if only_largest:
            passes, levels = {max(passes, key=lambda shape: shape.cost)}, set()
        recorder = Recorder(self._tiled.device.torch_device)
        self._tiled.record(recorder, passes)
        self._beams.record(recorder, levels)

    @torch.inference_mode()
    def forward(self, plan: ForwardPlan) -> torch.Tensor:
        """Writes the plan's KV and returns the wanted logits, [L, vocab_size] in the model's dtype or a wider one.

        They may be overwritten by the next pass.
        """
        device = self.cache.data.device
        if plan.num_tokens == 0:
            return torch.empty((0, self.vocab_size), dtype=self.cache.data.dtype, device=device)
        if self._tiled is not None:
            return self._tiled.run(plan)
        rows = PackedRows(plan, self.cache.data.dtype, device)
        ids, positions = (upload(array.astype(np.int64), device) for array in (plan.token_ids, plan.positions))
        return self._decoder.forward(ids, positions, rows, self.cache)

    def logits(self, plan: ForwardPlan) -> npt.NDArray[np.floating[Any]]:
        """The wanted logits on the host, [L, vocab_size]; float64 for a float64 model, else float32."""
        logits = self.forward(plan)
        wide = logits if logits.dtype == torch.float64 else logits.float()
        array: npt.NDArray[np.floating[Any]] = download(wide)
        return array

    @torch.inference_mode()
    def top(
        self, plan: ForwardPlan, width: int, allowed: Mapping[int, npt.NDArray[np.bool_]] | None = None
    ) -> tuple[Int32Array, npt.NDArray[np.float32]]:
        """The `width` likeliest tokens of each wanted row, likeliest first, with their log-probabilities.

        Returns ids int32 [L, min(width, vocab_size)] and natural-log probabilities float32 of the same
        shape, normalised over the whole vocabulary, or over those ids [vocab_size] that ``allowed`` says may come
        for the wanted row it names; the others have -inf. Only these leave the device.
        """
        logits = self.forward(plan).float()
        for row, mask in (allowed or {}).items():
            logits[row].masked_fill_(~upload(mask, logits.device), -torch.inf)
        log_probs = torch.log_softmax(logits, dim=-1)
        values, ids = torch.topk(log_probs, min(width, self.vocab_size), dim=-1)
        return download(ids.to(torch.int32)), download(values)

    @torch.inference_mode()
    def beams(self, plan: ForwardPlan, rows: Sequence[BeamRow], *, width: int, depth: int) -> Beams:
        """All levels of a beam search with one copy to the device and one back; see `BeamSearch.run`.

        Only where attention is tiled. ``width`` is at most the vocabulary.
        """
        assert self._beams is not None
        return self._beams.run(plan, rows, width=width, depth=depth)


def _eos_token_ids(model: PreTrainedModel) -> tuple[int, ...]:
    generation = getattr(model, "generation_config", None)
    ids = getattr(generation, "eos_token_id", None)
    if ids is None:
        ids = model.config.eos_token_id
    if ids is None:
        return ()
    return tuple(int(token) for token in ids) if isinstance(ids, list) else (int(ids),)
