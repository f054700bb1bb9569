"""Tiny random models of every supported family, and what their stock forward says."""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
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

from shared.inference.exact import remove_float32_islands
from shared.inference.runner import ModelRunner

VOCAB = 64
WINDOW = 5

_SIZES: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
}
_QWEN_WINDOW = {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1}
_LONG = {"rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 64}
_LLAMA3_ROPE = {"rope_type": "llama3", **_LONG, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
_YARN = {"rope_type": "yarn", **_LONG}

FAMILIES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "llama": (LlamaConfig, LlamaForCausalLM, {}),
    "llama-no-gqa": (LlamaConfig, LlamaForCausalLM, {"num_key_value_heads": 4}),
    "llama-biased": (LlamaConfig, LlamaForCausalLM, {"attention_bias": True, "mlp_bias": True}),
    "llama-tied": (LlamaConfig, LlamaForCausalLM, {"tie_word_embeddings": True}),
    "llama3-rope": (LlamaConfig, LlamaForCausalLM, {"rope_parameters": _LLAMA3_ROPE}),
    "llama-yarn": (LlamaConfig, LlamaForCausalLM, {"rope_parameters": _YARN}),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {}),
    "qwen2-window": (Qwen2Config, Qwen2ForCausalLM, _QWEN_WINDOW),  # second layer only
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {"head_dim": 16}),
    "mistral": (MistralConfig, MistralForCausalLM, {"sliding_window": None}),
    "mistral-window": (MistralConfig, MistralForCausalLM, {"sliding_window": WINDOW}),
}


def new_model(family: str, dtype: torch.dtype) -> PreTrainedModel:
    """Fresh stock model whose every parameter, biases and norms too, is random."""
    config_type, model_type, changes = FAMILIES[family]
    model: PreTrainedModel = model_type(config_type(**{**_SIZES, **changes})).eval()
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            mean = 1.0 if "norm" in name else 0.0
            parameter.copy_(mean + 0.2 * torch.randn(parameter.shape, generator=generator))
    return model.to(dtype)


@functools.cache
def stock_model(family: str, dtype: torch.dtype) -> PreTrainedModel:
    """Stock forward with stock attention; in float64 without float32 islands."""
    model = new_model(family, dtype)
    if dtype == torch.float64:
        remove_float32_islands(model)
    return model


def new_runner(family: str = "llama", dtype: torch.dtype = torch.float64, num_slots: int = 512) -> ModelRunner:
    """The same weights behind packed attention."""
    return ModelRunner(copy.deepcopy(stock_model(family, dtype)), num_slots)


@torch.inference_mode()
def stock_logits(family: str, dtype: torch.dtype, tokens: Sequence[int]) -> npt.NDArray[Any]:
    """Stock logits at the last of `tokens`, [vocab]."""
    output = stock_model(family, dtype)(input_ids=torch.tensor([list(tokens)]), use_cache=False)
    logits: npt.NDArray[Any] = output.logits[0, -1].numpy()
    return logits


def relative_difference(actual: npt.NDArray[Any], expected: npt.NDArray[Any]) -> float:
    """Largest difference as a part of the largest expected value."""
    return float(np.max(np.abs(actual - expected), initial=0.0) / np.max(np.abs(expected), initial=1e-30))
