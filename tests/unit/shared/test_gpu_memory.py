"""What of a GPU's memory becomes KV."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import ConfigurationError
from shared.gpu_memory import GpuMemory, kv_memory

MIB = 2**20
GPU = GpuMemory(total=80_000 * MIB, free=62_000 * MIB, held=16_000 * MIB, forward_pass=2_000 * MIB)


def test_the_share_holds_weights_passes_and_kv() -> None:
    assert kv_memory(GPU, 0.75) == (60_000 - 16_000 - 2_000) * MIB


def test_no_more_than_is_free_whatever_the_share() -> None:
    assert kv_memory(GPU, 1.0) == (62_000 - 2_000) * MIB


def test_a_share_that_leaves_nothing_is_refused_with_its_figures() -> None:
    with pytest.raises(ConfigurationError) as caught:
        kv_memory(GPU, 0.2)
    for said in ("ADASERVE_GPU_MEMORY_SHARE=0.2", "16,000 MiB", "80,000 MiB", "62,000 MiB", "2,000 MiB"):
        assert said in str(caught.value)


@given(
    total=st.integers(1, 2**40),
    first=st.floats(0.01, 0.98),
    weights=st.tuples(st.integers(0, 2**38), st.integers(0, 2**38)),
    passes=st.tuples(st.integers(0, 2**36), st.integers(0, 2**36)),
)
def test_shares_of_one_gpu_fit_in_whatever_order_two_processes_start(
    total: int, first: float, weights: tuple[int, int], passes: tuple[int, int]
) -> None:
    """The second finds less free, and has what it would have had alone."""
    shares = (first, 1.0 - first)
    used, alone = 0, []
    for share, held, taken in zip(shares, weights, passes, strict=True):
        memory = GpuMemory(total=total, free=total - used - held, held=held, forward_pass=taken)
        try:
            kv = kv_memory(memory, share)
        except ConfigurationError:
            assert int(share * total) - held - taken <= 0
            return
        alone.append(kv == int(share * total) - held - taken)
        used += held + taken + kv
    assert used <= total
    assert all(alone)
