from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from shared.inference.linear import FEW_ROWS, SMALL, Linear, PackedLinear, linear

SIZES = [(24, 40), (1024, SMALL // 1024 + 8)]  # in, out: kept in both layouts, and packed alone
ROWS = [1, FEW_ROWS, FEW_ROWS + 1, 8, 33]


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("num_rows", ROWS)
@pytest.mark.parametrize("size", SIZES)
def test_packed_products_are_the_plain_ones(size: tuple[int, int], num_rows: int, has_bias: bool) -> None:
    num_in, num_out = size
    weight, rows, other = drawn(num_out, num_in), drawn(num_rows, num_in), drawn(num_rows, num_out)
    bias = drawn(num_out) if has_bias else None
    exact = Linear(weight, bias)
    packed = linear(weight.float(), None if bias is None else bias.float())
    assert isinstance(packed, PackedLinear)
    of: list[Callable[[Linear, torch.Tensor, torch.Tensor], torch.Tensor]] = [
        lambda product, x, _: product(x),
        lambda product, x, _: product.silu(x),
        lambda product, x, y: product.times(x, y),
        lambda product, x, y: product.plus(x, y),
    ]
    for apply in of:
        expected = apply(exact, rows, other)
        given = other.float()
        actual = apply(packed, rows.float(), given)
        assert actual.dtype == torch.float32
        assert float((actual - expected).abs().max() / expected.abs().max()) < 1e-5
        assert torch.equal(given, other.float())  # a residual is read again


def test_what_follows_the_product_is_what_it_says() -> None:
    product = Linear(torch.tensor([[2.0]]), torch.tensor([1.0]))
    rows, other = torch.tensor([[3.0]]), torch.tensor([[10.0]])
    assert product(rows).item() == 7.0
    assert product.times(rows, other).item() == 70.0
    assert product.plus(rows, other).item() == 17.0
    torch.testing.assert_close(product.silu(rows), torch.tensor([[7.0 / (1.0 + torch.e**-7)]]))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_are_not_packed(dtype: torch.dtype) -> None:
    assert type(linear(torch.ones(3, 2, dtype=dtype))) is Linear


def test_a_large_weight_is_held_once() -> None:
    weight = torch.zeros(SMALL + 8, 1)
    assert not [held for held in vars(PackedLinear(weight)).values() if held is weight]
    small = torch.zeros(8, 8)
    assert [held for held in vars(PackedLinear(small)).values() if held is small]


def test_rows_are_rounded_up_to_few_numbers() -> None:
    small, large = PackedLinear(torch.zeros(8, 8)), PackedLinear(torch.zeros(SMALL + 8, 1))
    assert [small.rows_for(n) for n in (1, 2, 16, 17, 33, 129)] == [1, 2, 16, 20, 40, 160]
    assert [large.rows_for(n) for n in (2, 3, 4, 5, 16, 17, 64)] == [4, 4, 4, 5, 16, 20, 64]
    rounded = [large.rows_for(n) for n in range(2, 513)]
    assert rounded == sorted(rounded)
    assert all(n <= found <= max(4, 1.25 * n) for n, found in enumerate(rounded, 2))
    assert Linear(torch.zeros(8, 8)).rows_for(17) == 17
