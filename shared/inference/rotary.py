"""Rotary position embedding as one complex product.

Stock models rotate dimension i of a head together with i + head_dim/2. Here the two lie side by side, as the real
and the imaginary part of one number, so that a rotation is a multiplication. The projections' rows are put in that
order once (`interleaved`); queries and keys are in it alike, so their products are the stock ones.
"""

from __future__ import annotations

import torch

_FIRST_TABLE = 512  # positions


def interleaved(rows: torch.Tensor, head_dim: int) -> torch.Tensor:
    """Rows [heads * head_dim, ...] of a projection, its bias or a norm's weight, reordered within each head."""
    halves = rows.reshape(-1, 2, head_dim // 2, *rows.shape[1:])
    return halves.transpose(1, 2).reshape(rows.shape)


class Rotary:
    """Rotations by the stock frequencies [head_dim/2] up to position ``limit``; ``scaling`` lengthens them."""

    def __init__(self, frequencies: torch.Tensor, scaling: float, dtype: torch.dtype, limit: int) -> None:
        self._precision = torch.float64 if dtype == torch.float64 else torch.float32
        self._frequencies = frequencies.to(self._precision)
        self._scaling = scaling
        self._limit = limit
        self.table = self._rotations(min(limit, _FIRST_TABLE))

    def at(self, positions: torch.Tensor, last: int) -> torch.Tensor:
        """Rotations for positions [T], of which ``last`` is the largest: complex [T, 1, head_dim/2]."""
        if last >= len(self.table):
            self.table = self._rotations(max(last + 1, min(self._limit, 2 * len(self.table))))
        return self.table[positions]

    def _rotations(self, count: int) -> torch.Tensor:
        positions = torch.arange(count, dtype=self._precision, device=self._frequencies.device)
        angles = positions[:, None] * self._frequencies
        return torch.polar(torch.full_like(angles, self._scaling), angles)[:, None]


def rotate(heads: torch.Tensor, rotations: torch.Tensor) -> torch.Tensor:
    """Interleaved heads [T, n, head_dim], rotated; the same shape and dtype."""
    wide = heads if heads.dtype in (torch.float32, torch.float64) else heads.float()
    pairs = torch.view_as_complex(wide.view(*wide.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * rotations).flatten(-2).to(heads.dtype)
