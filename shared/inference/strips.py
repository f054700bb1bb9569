"""Products with a large weight in float32 on a CPU, as a convolution of one pixel per row.

oneDNN lays the weights of such a convolution out in strips of 48 outputs, those of a linear product in strips of
64. Eight rows of 48 sums fit into the registers of AVX-512; of 64 six do, and for a seventh row the weights are
gone through twice: 7 and 8 rows take 0.77 of the time. Which layout it is, oneDNN chooses anew for every number of
rows. Where the choice is another one it rearranges the weights in every call, which takes thirty times as long as
the product. So numbers of rows are tried first, and others are put together from those that share a layout.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import lru_cache

import torch

LARGE = 1 << 20  # elements of a weight: below, the 13 us that a call takes longer are more than it gains
# All of these have to share the layout, and one of so many rows too, lest prompts be read in small pieces.
USUAL = (*range(1, 17), 20, 24, 28, 32, 40, 48, 56)
LONG = (72, 80, 88, 96, 104, 112, 128, 160, 192, 224, 256)
LEAST_LONG = 128
_PROBED_OUTPUTS = 1536  # the choice depends on inputs, rows and threads
_PROBED_BYTES = 1 << 16
_PIECE = 4  # rows whose arithmetic takes about as long as a call

_GEOMETRY = ([0, 0], [1, 1], [1, 1], 1)  # padding, stride, dilation, groups


class Strips:
    """A weight [out, in] and bias [out] or None, held in that layout alone. ``sizes``: of `strip_sizes`."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, sizes: tuple[int, ...]) -> None:
        self._num_out = len(weight)
        self._bias = bias
        self._sizes = sizes
        self.packed = _pack(weight, sizes[0])
        self._unary = torch.ops.mkldnn._convolution_pointwise.default
        self._binary = torch.ops.mkldnn._convolution_pointwise.binary

    def run(self, rows: torch.Tensor, then: str) -> torch.Tensor:
        """[n, in] -> [n, out], and ``then`` oneDNN's function of it."""

        def product(rows: torch.Tensor) -> torch.Tensor:
            return self._rows(self._unary(_pixels(rows), self.packed, self._bias, *_GEOMETRY, then, [], ""))

        return self._in_pieces(product, rows)

    def run_with(self, rows: torch.Tensor, other: torch.Tensor, then: str) -> torch.Tensor:
        """[n, in] -> [n, out], and ``then`` oneDNN's function of it and ``other`` [n, out]."""

        def product(rows: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
            pixels = (_pixels(rows), _pixels(other), self.packed, self._bias)
            return self._rows(self._binary(*pixels, *_GEOMETRY, then, None, None, [], None))

        return self._in_pieces(product, rows, other)

    def _rows(self, pixels: torch.Tensor) -> torch.Tensor:
        """[1, out, 1, n], channels last -> [n, out]."""
        return pixels.as_strided((pixels.shape[3], self._num_out), (self._num_out, 1))

    def _in_pieces(self, product: Callable[..., torch.Tensor], *rows: torch.Tensor) -> torch.Tensor:
        count = len(rows[0])
        if count in self._sizes:
            return product(*rows)
        found = rows[0].new_empty((count, self._num_out))
        for start, stop in pieces(count, self._sizes):
            found[start:stop] = product(*(each[start:stop] for each in rows))
        return found


@lru_cache(maxsize=1024)
def pieces(count: int, sizes: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Ranges of one size of ``sizes``, which has 1, that cover ``count`` rows; the last two may overlap."""
    size = min((size for size in sizes if size <= count), key=lambda size: -(-count // size) * (size + _PIECE))
    starts = [*range(0, count - size, size), count - size]
    return tuple((start, start + size) for start in starts)


def strip_sizes(num_out: int, num_in: int) -> tuple[int, ...]:
    """Numbers of rows for which a weight [out, in] has the same layout; none where those do not suffice."""
    return _sizes_alike(min(num_out, _PROBED_OUTPUTS), num_in, torch.get_num_threads())


@lru_cache
def _sizes_alike(num_out: int, num_in: int, _num_threads: int) -> tuple[int, ...]:
    probe = torch.arange(num_out * num_in, dtype=torch.float32).view(num_out, num_in)
    layout = _layout(probe, USUAL[0])
    long = tuple(size for size in LONG if _layout(probe, size) == layout)
    if not long or long[-1] < LEAST_LONG or any(_layout(probe, size) != layout for size in USUAL[1:]):
        return ()
    return (*USUAL, *long)


def _layout(probe: torch.Tensor, num_rows: int) -> bytes:
    """The beginning of the packed weight, which tells its layout."""
    packed = _pack(probe, num_rows)
    return ctypes.string_at(torch.ops.mkldnn.data_ptr(packed), min(_PROBED_BYTES, 4 * probe.numel()))


def _pack(weight: torch.Tensor, num_rows: int) -> torch.Tensor:
    plain = weight.reshape(*weight.shape, 1, 1).to_mkldnn()
    packed: torch.Tensor = torch.ops.aten.mkldnn_reorder_conv2d_weight(
        plain, *_GEOMETRY, [1, weight.shape[1], 1, num_rows]
    )
    return packed


def _pixels(rows: torch.Tensor) -> torch.Tensor:
    """[n, width] -> [1, width, 1, n], channels last: the same memory."""
    count, width = rows.shape
    return rows.contiguous().as_strided((1, width, 1, count), (count * width, 1, count * width, width))
