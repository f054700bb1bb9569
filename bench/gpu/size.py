"""How large the measured things are: as on a GPU that serves, or tiny, to see anywhere that all of it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """``model`` are the fields of a Llama configuration; the others count."""

    model: Mapping[str, int]
    copied_bytes: int
    product_side: int  # of the square matrices that show what the device can compute
    rounds: int  # that are timed
    context: int  # tokens of each request in the measured passes
    verified: tuple[int, ...]  # tokens of a pass
    prompts: int  # of the flagship, each at three temperatures
    tokens: int  # of each of its completions
    samples: int  # of the distribution test
    sample_prompts: int


FULL = Size(
    model={  # Llama 3.2 1B's shape: 1.24 B parameters, the embedding among them, for it is the head, too
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "vocab_size": 128_256,
    },
    copied_bytes=4 << 30,
    product_side=8192,
    rounds=50,
    context=512,
    verified=(1, 2, 4, 8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512),
    prompts=40,
    tokens=48,
    samples=2000,
    sample_prompts=2,
)
TINY = Size(
    model={
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "vocab_size": 512,
    },
    copied_bytes=4 << 20,
    product_side=128,
    rounds=3,
    context=32,
    verified=(1, 8, 32),
    prompts=1,
    tokens=8,
    samples=40,
    sample_prompts=1,
)
