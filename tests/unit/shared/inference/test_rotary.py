from __future__ import annotations

import pytest
import torch

from shared.inference.rotary import Rotary, interleaved, rotate

HEAD_DIM = 8


def stock_rotated(heads: torch.Tensor, positions: torch.Tensor, frequencies: torch.Tensor) -> torch.Tensor:
    """The formula of transformers: halves of a head turned together."""
    angles = (positions[:, None] * frequencies)[:, None]
    both = torch.cat((angles, angles), dim=-1)
    first, second = heads.chunk(2, dim=-1)
    return heads * both.cos() + torch.cat((-second, first), dim=-1) * both.sin()


def frequencies() -> torch.Tensor:
    return 10000.0 ** -(torch.arange(HEAD_DIM // 2, dtype=torch.float64) * 2 / HEAD_DIM)


def test_interleaving_puts_the_halves_of_each_head_side_by_side() -> None:
    two_heads = torch.arange(2 * HEAD_DIM)
    assert interleaved(two_heads, HEAD_DIM).tolist()[:HEAD_DIM] == [0, 4, 1, 5, 2, 6, 3, 7]
    assert interleaved(two_heads, HEAD_DIM).tolist()[HEAD_DIM:] == [8, 12, 9, 13, 10, 14, 11, 15]
    columns = torch.stack([two_heads, 100 + two_heads], dim=1)
    assert torch.equal(interleaved(columns, HEAD_DIM)[:, 0], interleaved(two_heads, HEAD_DIM))


@pytest.mark.parametrize("positions", [[0, 1, 2], [5, 5, 3], [511, 512, 513], [1999, 0, 700]])
def test_rotating_interleaved_heads_is_the_stock_rotation_interleaved(positions: list[int]) -> None:
    generator = torch.Generator().manual_seed(0)
    heads = torch.randn(len(positions), 3, HEAD_DIM, generator=generator, dtype=torch.float64)
    at = torch.tensor(positions)
    rotary = Rotary(frequencies(), 1.0, torch.float64, limit=2000)
    stock = stock_rotated(heads, at, frequencies())
    swapped = interleaved(heads.movedim(-1, 0), HEAD_DIM).movedim(0, -1).contiguous()
    actual = rotate(swapped, rotary.at(at, max(positions)))
    torch.testing.assert_close(actual, interleaved(stock.movedim(-1, 0), HEAD_DIM).movedim(0, -1))


def test_scaling_lengthens_what_is_rotated() -> None:
    rotary = Rotary(frequencies(), 1.5, torch.float32, limit=8)
    heads = torch.ones(1, 1, HEAD_DIM)
    length = rotate(heads, rotary.at(torch.tensor([7]), 7)).norm()
    torch.testing.assert_close(length, 1.5 * heads.norm())


def test_half_precision_is_rotated_in_float32_and_comes_back() -> None:
    rotary = Rotary(frequencies(), 1.0, torch.bfloat16, limit=8)
    heads = torch.ones(1, 1, HEAD_DIM)
    exact = rotate(heads, rotary.at(torch.tensor([3]), 3))
    actual = rotate(heads.bfloat16(), rotary.at(torch.tensor([3]), 3))
    assert actual.dtype == torch.bfloat16
    assert torch.equal(actual, exact.bfloat16())
