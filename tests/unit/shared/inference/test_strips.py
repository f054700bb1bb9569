from __future__ import annotations

import pytest
import torch
import torch.nn.functional as functional

from shared.inference import strips
from shared.inference.linear import Packed, PackedLinear
from shared.inference.strips import LARGE, LONG, USUAL, Strips, pieces, strip_sizes

SIZES = (1, 4, 5, 8, 16)
OUTPUTS, INPUTS = 96, 40


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("num_rows", [1, 3, 4, 5, 8, 9, 16, 23])
def test_products_are_the_plain_ones_whole_and_in_pieces(num_rows: int, has_bias: bool) -> None:
    weight, rows, other = drawn(OUTPUTS, INPUTS), drawn(num_rows, INPUTS), drawn(num_rows, OUTPUTS)
    bias = drawn(OUTPUTS) if has_bias else None
    product = Strips(weight, bias, SIZES)
    plain, given = functional.linear(rows, weight, bias), other.clone()
    for found, expected in (
        (product.run(rows, "none"), plain),
        (product.run(rows, "swish"), functional.silu(plain)),
        (product.run_with(rows, other, "mul"), plain * other),
        (product.run_with(rows, other, "add"), plain + other),
    ):
        assert found.is_contiguous()
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    assert torch.equal(other, given)  # a residual is read again


def test_rows_need_not_be_contiguous() -> None:
    weight, rows = drawn(OUTPUTS, INPUTS), drawn(INPUTS, 5).t()
    torch.testing.assert_close(Strips(weight, None, SIZES).run(rows, "none"), rows @ weight.t(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("count", range(1, 300))
def test_pieces_have_a_known_size_and_cover_all_rows(count: int) -> None:
    found = pieces(count, SIZES)
    sizes = {stop - start for start, stop in found}
    assert len(sizes) == 1
    assert sizes <= set(SIZES)
    assert sorted({row for start, stop in found for row in range(start, stop)}) == list(range(count))


def test_pieces_are_few_and_hardly_overlap() -> None:
    assert pieces(32, SIZES) == ((0, 16), (16, 32))
    assert pieces(15, SIZES) == ((0, 8), (7, 15))
    assert pieces(23, SIZES) == ((0, 8), (8, 16), (15, 23))


def test_sizes_share_one_layout() -> None:
    """Where this machine has such sizes; a layout that differs would be rearranged in every call."""
    outputs, inputs = 3072, 768
    sizes = strip_sizes(outputs, inputs)
    weight = drawn(outputs, inputs)
    assert len({strips._layout(weight, size) for size in sizes}) <= 1
    assert not sizes or set(USUAL) < set(sizes) <= {*USUAL, *LONG}


@pytest.mark.parametrize("differs", [USUAL[3], *LONG[-6:]])
def test_another_layout_is_not_used(differs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strips, "_layout", lambda _, rows: b"other" if rows == differs else b"same")
    strips._sizes_alike.cache_clear()
    found = strip_sizes(64, 64)
    strips._sizes_alike.cache_clear()
    assert found == (() if differs in USUAL else tuple(size for size in (*USUAL, *LONG) if size != differs))


def test_large_weights_are_in_strips_only_where_layouts_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    large, small = torch.zeros(LARGE // 64 + 1, 64), torch.zeros(LARGE // 64, 64)
    for sizes, kind in ((SIZES, Strips), ((), Packed)):
        monkeypatch.setattr("shared.inference.linear.strip_sizes", lambda *_, found=sizes: found)
        assert isinstance(PackedLinear(large)._packed, kind)
        assert isinstance(PackedLinear(small)._packed, Packed)
