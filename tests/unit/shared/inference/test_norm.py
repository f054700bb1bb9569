from __future__ import annotations

import pytest
import torch

from shared.inference.norm import Norm, ShortNorm, norm

EPSILON = 1e-5
TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-14}


def exact(rows: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    wide = rows.double()
    return wide / (wide.square().mean(-1, keepdim=True) + EPSILON).sqrt() * weight.double()


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])  # squares far below and far above epsilon
@pytest.mark.parametrize("shape", [(5, 48), (1, 769), (3, 7, 16)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_both_are_the_definition(dtype: torch.dtype, shape: tuple[int, ...], scale: float) -> None:
    generator = torch.Generator().manual_seed(len(shape))
    rows = scale * torch.randn(shape, generator=generator, dtype=dtype)
    weight = torch.randn(shape[1:], generator=generator, dtype=dtype)
    expected = exact(rows, weight)
    for kind in (Norm, ShortNorm):
        found = kind(weight, EPSILON)(rows)
        assert found.dtype == dtype
        assert float((found - expected).abs().max() / expected.abs().max()) <= TOLERANCE[dtype]


def test_a_row_of_zeros_stays_zero() -> None:
    assert torch.equal(ShortNorm(torch.ones(4), EPSILON)(torch.zeros(2, 4)), torch.zeros(2, 4))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_half_precision_keeps_the_stock_function_which_sums_wider(dtype: torch.dtype) -> None:
    assert isinstance(norm(torch.ones(3, dtype=dtype), EPSILON), ShortNorm) == (dtype != torch.bfloat16)
