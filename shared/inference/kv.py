"""The KV pool: keys and values of all layers by slot, and who owns which slots (`blocks`)."""

from __future__ import annotations

import torch
from transformers import PretrainedConfig

from shared.errors import ModelError
from shared.inference.blocks import BlockPool, SequenceSlots
from shared.inference.plan import IntArray
from shared.inference.upload import upload

__all__ = ["BlockPool", "KVCache", "SequenceSlots", "slots_for_memory"]

MOVED_BYTES = 64 << 20  # copied in one go; more, a long prefix that is found again say, goes layer by layer


class KVCache:
    """Keys and values of every layer for `num_slots` tokens.

    ``spare``: slots behind these which are nobody's, for what passes of a fixed shape compute in vain.
    """

    def __init__(
        self,
        config: PretrainedConfig,
        num_slots: int,
        dtype: torch.dtype,
        device: torch.device,
        *,
        spare: int = 0,
    ) -> None:
        self.num_slots = num_slots
        heads, head_dim = kv_heads_of(config), head_dim_of(config)
        # [layers, 2, slots, kv_heads, head_dim]; the slot axis in front of the heads makes a token's KV of
        # one layer one piece, and consecutive slots one slice.
        self.data = torch.zeros(
            (config.num_hidden_layers, 2, num_slots + spare, heads, head_dim), dtype=dtype, device=device
        )
        self._layers = [(layer[0], layer[1]) for layer in self.data]

    def resize(self, num_slots: int) -> None:
        """Another number of slots, which hold nothing; the old ones are freed first."""
        layers, both, slots, heads, head_dim = self.data.shape
        shape = (layers, both, slots - self.num_slots + num_slots, heads, head_dim)
        self._layers, self.data, self.num_slots = [], self.data.new_empty(0), num_slots
        self.data = self.data.new_zeros(shape)
        self._layers = [(layer[0], layer[1]) for layer in self.data]

    def layer(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Views of one layer's keys and values, each [slots, kv_heads, head_dim]."""
        return self._layers[index]

    def move(self, source: IntArray, destination: IntArray) -> None:
        """Copies all layers' KV from the source to the destination slots, both [n]; they may overlap.

        Everything is read before anything is written. Destinations must differ from each other.
        """
        changed = source != destination
        if not changed.any():
            return
        sources, destinations = (
            upload(slots[changed].astype("int64"), self.data.device) for slots in (source, destination)
        )
        size = len(self.data)
        step = size if self.data[:, :, :1].nbytes * len(sources) <= MOVED_BYTES else 1
        for first in range(0, size, step):
            layers = self.data[first : first + step]
            layers.index_copy_(2, destinations, layers.index_select(2, sources))


def slots_for_memory(config: PretrainedConfig, dtype: torch.dtype, memory_bytes: int) -> int:
    """Slots whose KV fits into the given memory. Raises ModelError when not even one does."""
    slot_bytes = 2 * config.num_hidden_layers * kv_heads_of(config) * head_dim_of(config) * dtype.itemsize
    num_slots = memory_bytes // slot_bytes
    if num_slots < 1:
        raise ModelError(f"KV memory of {memory_bytes} bytes holds no token: one takes {slot_bytes} bytes")
    return int(num_slots)


def head_dim_of(config: PretrainedConfig) -> int:
    """Width of one attention head; configurations may leave it to be derived."""
    explicit = getattr(config, "head_dim", None)
    return int(explicit or config.hidden_size // config.num_attention_heads)


def kv_heads_of(config: PretrainedConfig) -> int:
    """Attention heads with keys and values of their own; configurations without them have one for each head."""
    return int(getattr(config, "num_key_value_heads", None) or config.num_attention_heads)
