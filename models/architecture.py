"""Sizes of the two Llama models."""

from __future__ import annotations

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from models.tokenizer import CONTEXT_TOKENS, VOCAB_SIZE


def llama_config(*, layers: int, hidden: int, mlp: int, heads: int, kv_heads: int) -> LlamaConfig:
    """A Llama with tied embeddings over the shared vocabulary."""
    return LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=hidden,
        intermediate_size=mlp,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=CONTEXT_TOKENS,
        tie_word_embeddings=True,
        rms_norm_eps=1e-5,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
        dtype="bfloat16",
    )


def target_config() -> LlamaConfig:
    """The model whose text is served: 5.8 M parameters."""
    return llama_config(layers=6, hidden=256, mlp=768, heads=4, kv_heads=2)


def draft_config() -> LlamaConfig:
    """The model that guesses: 1.2 M parameters."""
    return llama_config(layers=2, hidden=160, mlp=480, heads=5, kv_heads=5)


def new_model(config: LlamaConfig) -> LlamaForCausalLM:
    """A float32 model with fresh weights."""
    model = LlamaForCausalLM(config).float()
    return model.train()


def count_parameters(model: torch.nn.Module) -> int:
    """Number of distinct weights; tied ones count once."""
    return sum(parameter.numel() for parameter in model.parameters())
