from __future__ import annotations

import pytest
import torch

from shared.inference.exact import remove_float32_islands
from tests.unit.shared.inference.tiny_models import FAMILIES, new_model

IDS = torch.arange(40).reshape(1, 40) % 64


@torch.inference_mode()
def logits_of(model: torch.nn.Module) -> torch.Tensor:
    logits: torch.Tensor = model(input_ids=IDS, use_cache=False).logits[0]
    return logits


@pytest.mark.parametrize("family", FAMILIES)
def test_the_formulas_stay_the_stock_ones(family: str) -> None:
    stock = logits_of(new_model(family, torch.float64))
    model = new_model(family, torch.float64)
    remove_float32_islands(model)
    exact = logits_of(model)
    assert not torch.equal(exact, stock)  # the stock model rounds to float32 on its way
    torch.testing.assert_close(exact, stock, rtol=0, atol=1e-5 * float(stock.abs().max()))
    remove_float32_islands(model)
    assert torch.equal(logits_of(model), exact)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_intermediate_result_is_rounded_to_float32(family: str) -> None:
    """Logits answer changes far below float32's resolution in proportion, without steps."""
    model = new_model(family, torch.float64)
    remove_float32_islands(model)
    embedding = model.get_input_embeddings().weight.data
    direction = torch.randn(embedding.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    before = logits_of(model)
    embedding.add_(1e-9 * direction)
    once = logits_of(model) - before
    embedding.add_(1e-9 * direction)
    twice = logits_of(model) - before
    assert float((twice - 2 * once).abs().max()) < 1e-4 * float(once.abs().max())
