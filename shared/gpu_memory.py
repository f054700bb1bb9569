"""How much of a GPU's memory becomes KV: a decision over figures that somebody else has read.

Several processes may share a GPU. Each is given a share of the whole memory, as in vLLM, and not of what happens
to be free: shares that leave room for what they do not count (contexts of CUDA, graphs, fragments: about a tenth)
fit in whatever order the processes start.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.errors import ConfigurationError

SHARE_VARIABLE = "ADASERVE_GPU_MEMORY_SHARE"


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuMemory:
    """One GPU's memory in bytes, with the weights loaded and no KV yet.

    ``free``: what no process holds. ``held``: by this process' weights. ``forward_pass``: what the largest one
    takes besides, and gives back. ``recordings``: what recorded passes keep.
    """

    total: int
    free: int
    held: int
    forward_pass: int
    recordings: int = 0


def kv_memory(memory: GpuMemory, share: float) -> int:
    """Bytes for KV, at least 1: what this process' ``share`` leaves, and no more than is free.

    Raises ConfigurationError, with all the figures, where that is nothing.
    """
    own = int(share * memory.total)
    left = min(own - memory.held, memory.free) - memory.forward_pass - memory.recordings
    if left <= 0:
        raise ConfigurationError(
            f"{SHARE_VARIABLE}={share:g}: leaves nothing for KV. It is {_mib(own)} of the GPU's "
            f"{_mib(memory.total)}, {_mib(memory.free)} are free, the weights hold {_mib(memory.held)}, the "
            f"largest forward pass takes {_mib(memory.forward_pass)} and recorded ones {_mib(memory.recordings)}"
        )
    return left


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"
