from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from shared.inference import linear
from shared.inference.decoder import Decoder
from shared.inference.kv import KVCache
from shared.inference.plan import build_plan, chain_row
from shared.inference.rows import PackedRows
from tests.unit.shared.inference.tiny_models import (
    VOCAB,
    new_model,
    relative_difference,
    stock_logits,
    stock_model,
)

TEXT = [3, 1, 4, 1, 5, 9, 2, 6]


def logits_of(decoder: Decoder, cache: KVCache, wanted: list[int]) -> torch.Tensor:
    slots = np.arange(len(TEXT))
    row = chain_row(slots[:0], np.array(TEXT), slots, last_logits=False)
    plan = build_plan([replace(row, logits=np.array(wanted, np.int32))])
    rows = PackedRows(plan, cache.data.dtype, cache.data.device)
    with torch.inference_mode():
        return decoder.forward(torch.tensor(TEXT), torch.arange(len(TEXT)), rows, cache)


def new_decoder(family: str = "llama", **changes: object) -> tuple[Decoder, KVCache]:
    model = copy.deepcopy(stock_model(family, torch.float64))
    cache = KVCache(model.config, 16, model.dtype, model.device)
    return Decoder(model, **{"vocab_size": VOCAB, **changes}), cache  # type: ignore[arg-type]


@pytest.mark.parametrize("wanted", [[7], [0, 7], [7, 0, 3], list(range(8)), list(range(8))[::-1], [2, 2]])
def test_logits_come_in_the_order_wanted(wanted: list[int]) -> None:
    decoder, cache = new_decoder()
    actual = logits_of(decoder, cache, wanted).numpy()
    for logits, index in zip(actual, wanted, strict=True):
        expected = stock_logits("llama", torch.float64, TEXT[: index + 1])
        assert relative_difference(logits, expected) <= 1e-9


def test_without_wanted_logits_every_layer_still_gets_its_kv() -> None:
    decoder, cache = new_decoder()
    assert logits_of(decoder, cache, []).shape == (0, VOCAB)
    without = cache.data.clone()
    logits_of(decoder, cache, [7])
    assert torch.equal(cache.data, without)
    assert without[:, :, : len(TEXT)].abs().amin(dim=-1).gt(0).all()


def test_what_ranks_hold_in_part_is_summed_before_the_residual_is_added() -> None:
    decoder, cache = new_decoder()
    whole = logits_of(decoder, cache, [7])
    calls: list[tuple[int, ...]] = []

    def halves(part: torch.Tensor) -> torch.Tensor:
        calls.append(tuple(part.shape))
        return part / 2 + part / 2

    decoder, cache = new_decoder(reduce=halves)
    torch.testing.assert_close(logits_of(decoder, cache, [7]), whole, rtol=0, atol=1e-12)
    assert calls == [(8, 32), (8, 32), (1, 32), (1, 32)]  # two a layer; the last one's for wanted rows only
    decoder, cache = new_decoder(reduce=torch.zeros_like)
    assert not torch.allclose(logits_of(decoder, cache, [7]), whole)


def test_the_model_no_longer_holds_what_was_packed() -> None:
    model = new_model("qwen2", torch.float32)
    Decoder(model, vocab_size=VOCAB)
    attention, mlp = model.model.layers[0].self_attn, model.model.layers[0].mlp
    parts = (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj, mlp.gate_proj, mlp.up_proj)
    assert [part.weight.numel() for part in (*parts, mlp.down_proj)] == [0] * 7


@pytest.mark.parametrize("family", ["llama", "qwen3"])
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_rows_added_for_quicker_products_change_nothing(
    monkeypatch: pytest.MonkeyPatch, family: str, size: int
) -> None:
    monkeypatch.setattr(linear, "SMALL", 0)  # every weight is a large one
    model = copy.deepcopy(stock_model(family, torch.float32))
    cache = KVCache(model.config, 16, model.dtype, model.device)
    decoder = Decoder(model, vocab_size=VOCAB)
    for start in range(0, len(TEXT), size):
        fed = np.array(TEXT[start : start + size])
        slots = np.arange(start, start + len(fed))
        plan = build_plan([chain_row(np.arange(start), fed, slots, last_logits=True)])
        rows = PackedRows(plan, cache.data.dtype, cache.data.device)
        with torch.inference_mode():
            logits = decoder.forward(torch.tensor(fed), torch.tensor(plan.positions).long(), rows, cache)
        assert logits.shape == (1, VOCAB)
        expected = stock_logits(family, torch.float64, TEXT[: start + len(fed)])
        assert relative_difference(logits.double().numpy()[0], expected) <= 1e-4
    assert not cache.data[:, :, len(TEXT) :].any()
