"""Models on disk whose halves two processes run; as a process of its own, the second of the two.

`python -m tests.unit.services.verifier.divided STORE DIRECTORY...` follows rank 0 through one model after the
other; a step without tokens ends a model.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from services.verifier.meeting import join
from services.verifier.parallel import load_part, obey
from services.verifier.settings import VerifierSettings

OFFERED = (11, 7)  # by rank, once they have met: what each has room for
VOCAB = 67  # not even: rank 1 has an id less
_SIZES: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 6,
    "max_position_embeddings": 128,
}
_WINDOW = {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1}
_TIED = {"tie_word_embeddings": True}
FAMILIES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "llama": (LlamaConfig, LlamaForCausalLM, {}),
    "llama-tied": (LlamaConfig, LlamaForCausalLM, _TIED),
    "llama-biases": (LlamaConfig, LlamaForCausalLM, {"attention_bias": True, "mlp_bias": True}),
    "mistral": (MistralConfig, MistralForCausalLM, {"sliding_window": 5}),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {}),
    "qwen2-window": (Qwen2Config, Qwen2ForCausalLM, {**_WINDOW, **_TIED}),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {"head_dim": 8}),
}


def save_model(family: str, directory: Path, **changes: Any) -> Path:
    """A model with random parameters, biases and norms too, in several weight files."""
    config_type, model_type, of_family = FAMILIES[family]
    torch.manual_seed(7)
    model: PreTrainedModel = model_type(config_type(**{**_SIZES, **of_family, **changes}))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_((1.0 if "norm" in name else 0.0) + 0.2 * torch.randn_like(parameter))
    model.save_pretrained(directory, max_shard_size="20KB")
    return directory


def settings_of(directory: Path, ranks: int = 2) -> VerifierSettings:
    return VerifierSettings(target=str(directory), tensor_parallel=ranks, dtype="float64", kv_memory_mb=1)


def main(store: Path, directories: list[Path]) -> None:
    torch.set_num_threads(1)
    rank, line = join(settings_of(directories[0]), 1, store)
    rank.least(OFFERED[1], torch.device("cpu"))
    for directory in directories:
        runner, _ = load_part(settings_of(directory), rank)
        while (step := line.hear()).plan.num_tokens:
            obey(runner, step)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(argument) for argument in sys.argv[2:]])
