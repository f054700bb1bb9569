from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as functional

from shared.inference.linear import SMALL, Packed, PackedLinear
from shared.inference.single_row import WIDTHS, SingleRow
from shared.inference.strips import Strips

INPUTS = 40


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def laid_out(weight: torch.Tensor, width: int) -> torch.Tensor:
    """A weight [out, in] in strips of ``width`` outputs, as oneDNN lays them out, padded with NaN."""
    num_out, num_in = weight.shape
    padded = torch.full((-(-num_out // width) * width, num_in), torch.nan)
    padded[:num_out] = weight
    return padded.view(-1, width, num_in).transpose(1, 2).contiguous()


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)


@pytest.fixture
def plain_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layouts made here in place of oneDNN's."""
    monkeypatch.setattr("shared.inference.single_row._address", torch.Tensor.data_ptr)


@pytest.mark.usefixtures("one_thread", "plain_memory")
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("num_out", [192, 193, 200])
def test_products_are_the_plain_ones(num_out: int, width: int, has_bias: bool) -> None:
    weight, row, other = drawn(num_out, INPUTS), drawn(1, INPUTS), drawn(1, num_out)
    bias = drawn(num_out) if has_bias else None
    single = SingleRow.over(laid_out(weight, width), weight, bias)
    assert single is not None
    plain, given = functional.linear(row, weight, bias), other.clone()
    for found, expected in (
        (single.run(row, "none"), plain),
        (single.run(row, "swish"), functional.silu(plain)),
        (single.run_with(row, other, "mul"), plain * other),
        (single.run_with(row, other, "add"), plain + other),
    ):
        assert found.is_contiguous()
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    assert torch.equal(other, given)  # a residual is read again


@pytest.mark.usefixtures("one_thread", "plain_memory")
@pytest.mark.parametrize("num_out", [8, 96, 100])
def test_another_layout_is_not_read(num_out: int) -> None:
    weight = drawn(num_out, INPUTS)
    assert SingleRow.over(weight, weight, None) is None
    if num_out > max(WIDTHS):
        blocked = laid_out(weight, 48).clone()
        blocked[-1, 3, 1] += 1.0  # one number elsewhere
        assert SingleRow.over(blocked, weight, None) is None


@pytest.mark.usefixtures("plain_memory")
def test_several_threads_share_the_work_of_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = drawn(96, INPUTS)
    for threads, is_used in ((1, True), (2, False)):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert (SingleRow.over(laid_out(weight, 48), weight, None) is not None) == is_used


@pytest.mark.usefixtures("one_thread")
def test_the_layouts_of_this_machine() -> None:
    """Where they are strips of a known width, as on every x86 with AVX-512 so far, they are read right."""
    weight, row = drawn(1000, 96), drawn(1, 96)
    for packed in (Packed(weight, None).packed, Strips(weight, None, (1, 4, 8)).packed):
        single = SingleRow.over(packed, weight, None)
        if single is not None:
            torch.testing.assert_close(single.run(row, "none"), row @ weight.t(), rtol=0, atol=1e-3)


@pytest.mark.usefixtures("one_thread")
def test_one_row_stays_one_where_it_is_read_so() -> None:
    weight = drawn(SMALL // 64 + 8, 64)
    product = PackedLinear(weight)
    is_read_so = product._single is not None
    assert [product.rows_for(count) for count in (1, 2, 4, 5)] == [1 if is_read_so else 4, 4, 4, 5]
    row = drawn(1, 64)
    torch.testing.assert_close(product(row), row @ weight.t(), rtol=0, atol=1e-3)
    assert np.isfinite(product(row).numpy()).all()
