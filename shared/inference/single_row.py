"""Products of a single row, read off the weight as oneDNN has laid it out, by numpy's BLAS.

A decoded token without a tree is one row, and its products take as long as their weights take to be read. oneDNN's
kernels read two thirds of what memory gives; OpenBLAS' matrix-vector product reads a tenth to two fifths more, and
the strips of outputs in which oneDNN lays weights out are matrices as it likes them. Nothing is held twice.
"""

from __future__ import annotations

import ctypes
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as functional

WIDTHS = (48, 64)  # outputs in a strip: of a convolution's weights, and of a linear product's


class SingleRow:
    """x W^T + b for one row, over ``strips`` float32 [strips, in, width] of W, padded beyond ``num_out``.

    The strips are memory of ``packed``, which stays alive with this.
    """

    def __init__(
        self, packed: torch.Tensor, strips: npt.NDArray[np.float32], num_out: int, bias: torch.Tensor | None
    ) -> None:
        self._packed = packed
        self._strips = strips
        self._num_out = num_out
        self._bias = bias

    @classmethod
    def over(cls, packed: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> Self | None:
        """Of a weight [out, in] in oneDNN's layout ``packed``; None where that is not strips of a known width.

        None with several threads as well: oneDNN's share the work, BLAS' would have to meet at every strip.
        """
        if torch.get_num_threads() > 1:
            return None
        for width in WIDTHS:
            strips = _strips(packed, weight, width)
            if strips is not None:
                return cls(packed, strips, len(weight), bias)
        return None

    def run(self, row: torch.Tensor, then: str) -> torch.Tensor:
        """[1, in] -> [1, out], and ``then`` "none" or "swish" of it."""
        product = self._product(row)
        return product if then == "none" else functional.silu(product, inplace=True)

    def run_with(self, row: torch.Tensor, other: torch.Tensor, then: str) -> torch.Tensor:
        """[1, in] -> [1, out], and ``then`` "add" or "mul" of it and ``other`` [1, out]."""
        product = self._product(row)
        return product.add_(other) if then == "add" else product.mul_(other)

    def _product(self, row: torch.Tensor) -> torch.Tensor:
        whole = torch.from_numpy(np.matmul(row.view(-1).numpy(), self._strips))
        product = whole.view(1, -1).narrow(1, 0, self._num_out)
        return product if self._bias is None else product.add_(self._bias)


def _strips(packed: torch.Tensor, weight: torch.Tensor, width: int) -> npt.NDArray[np.float32] | None:
    """[strips, in, width] if the memory of ``packed`` holds just that of ``weight``, the last strip padded."""
    num_out, num_in = weight.shape
    whole, left = divmod(num_out, width)
    if not whole:
        return None
    strips = _memory(packed, whole * num_in * width).reshape(whole, num_in, width)
    plain = weight.numpy()
    if not np.array_equal(strips, plain[: whole * width].reshape(whole, width, num_in).transpose(0, 2, 1)):
        return None
    if not left:
        return strips
    # The whole strips are there, so the last one is too: the weight's last element stands near its end.
    padded = _memory(packed, (whole + 1) * num_in * width).reshape(whole + 1, num_in, width)
    return padded if np.array_equal(padded[-1, :, :left], plain[whole * width :].T) else None


def _memory(packed: torch.Tensor, count: int) -> npt.NDArray[np.float32]:
    """The first ``count`` numbers at ``packed``'s address."""
    return np.ctypeslib.as_array((ctypes.c_float * count).from_address(_address(packed)))


def _address(packed: torch.Tensor) -> int:
    address: int = torch.ops.mkldnn.data_ptr(packed)
    return address
