"""Matrix products with a model's weights, and what usually follows them in the same call.

On a CPU in float32 the weights are laid out once for oneDNN. Its kernels then read them as they are stored,
whatever the number of rows: stock products have a cliff between 2 and 16 rows, which is where verification works,
and are two to four times slower there (docs/adr/0015-own-forward.md). Large ones are laid out in `strips` where
that goes. Other devices and precisions multiply as PyTorch does.
"""

from __future__ import annotations

import torch
import torch.nn.functional as functional

from shared.inference.single_row import SingleRow
from shared.inference.strips import LARGE, Strips, strip_sizes

# Calling oneDNN costs some 8 us more than the stock product, which wins for few rows of small weights. Only those
# are kept in both layouts.
SMALL = 1 << 18  # elements of a weight
FEW_ROWS = 2
# oneDNN's kernels for one to three rows read a large weight slower than the one for four: 1.26, 1.45, 1.06 times
# as long on an AMD core with AVX-512. One row more costs nothing as long as all wait for memory. A single row has
# something better (`SingleRow`), as a rule.
QUICK_ROWS = 4
# oneDNN compiles and keeps kernels for every number of rows, about half a MiB for each weight's shape. Beyond so
# many rows their number is rounded up to a multiple, which costs a few per cent of the arithmetic.
STEPS = ((128, 32), (32, 8), (16, 4))


class Linear:
    """x W^T + b for weight [out, in] and bias [out] or None."""

    def rows_for(self, num_rows: int) -> int:
        """As many rows, or a few more, where zeros beside them make products quicker or kernels fewer."""
        return num_rows

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        self._weight = weight
        self._bias = bias

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """[n, in] -> [n, out]."""
        return functional.linear(rows, self._weight, self._bias)

    def silu(self, rows: torch.Tensor) -> torch.Tensor:
        """SiLU of the product."""
        return functional.silu(self(rows))

    def times(self, rows: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
        """The product times ``factor`` [n, out], element by element."""
        return self(rows) * factor

    def plus(self, rows: torch.Tensor, summand: torch.Tensor) -> torch.Tensor:
        """The product plus ``summand`` [n, out]."""
        return self(rows) + summand


class Packed:
    """A weight [out, in] and bias [out] or None, laid out for oneDNN's linear product."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self._bias = bias
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous())
        self._unary = torch.ops.mkldnn._linear_pointwise.default
        self._binary = torch.ops.mkldnn._linear_pointwise.binary

    def run(self, rows: torch.Tensor, then: str) -> torch.Tensor:
        """[n, in] -> [n, out], and ``then`` oneDNN's function of it."""
        product: torch.Tensor = self._unary(rows, self.packed, self._bias, then, [], "")
        return product

    def run_with(self, rows: torch.Tensor, other: torch.Tensor, then: str) -> torch.Tensor:
        """[n, in] -> [n, out], and ``then`` oneDNN's function of it and ``other`` [n, out]."""
        product: torch.Tensor = self._binary(rows, other, self.packed, self._bias, then)
        return product


class PackedLinear(Linear):
    """The same over weights packed for oneDNN; float32 on a CPU. A large weight is kept in that layout alone."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        super().__init__(weight if weight.numel() <= SMALL else weight.new_empty(0), bias)
        self._few_rows = FEW_ROWS if weight.numel() <= SMALL else 0
        self._quick_rows = 1 if weight.numel() <= SMALL else QUICK_ROWS
        sizes = strip_sizes(*weight.shape) if weight.numel() > LARGE else ()
        self._packed = Strips(weight, bias, sizes) if sizes else Packed(weight, bias)
        self._single = SingleRow.over(self._packed.packed, weight, bias)

    def rows_for(self, num_rows: int) -> int:
        for bound, multiple in STEPS:
            if num_rows > bound:
                return -(-num_rows // multiple) * multiple
        return num_rows if num_rows == 1 and self._single is not None else max(num_rows, self._quick_rows)

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        if len(rows) <= self._few_rows:
            return super().__call__(rows)
        return self._product(rows).run(rows, "none")

    def silu(self, rows: torch.Tensor) -> torch.Tensor:
        if len(rows) <= self._few_rows:
            return super().silu(rows)
        return self._product(rows).run(rows, "swish")

    def times(self, rows: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
        if len(rows) <= self._few_rows:
            return super().times(rows, factor)
        return self._product(rows).run_with(rows, factor, "mul")

    def plus(self, rows: torch.Tensor, summand: torch.Tensor) -> torch.Tensor:
        if len(rows) <= self._few_rows:
            return super().plus(rows, summand)
        return self._product(rows).run_with(rows, summand, "add")

    def _product(self, rows: torch.Tensor) -> Strips | Packed | SingleRow:
        return self._single if len(rows) == 1 and self._single is not None else self._packed


def linear(weight: torch.Tensor, bias: torch.Tensor | None = None) -> Linear:
    """The quickest product with this weight on its device. It may keep the tensors given."""
    if weight.device.type != "cpu" or weight.dtype != torch.float32:
        return Linear(weight, bias)
    has_onednn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return PackedLinear(weight, bias) if has_onednn else Linear(weight, bias)
