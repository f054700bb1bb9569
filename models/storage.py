"""Storing and loading models in Hugging Face format, bfloat16."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from transformers import GenerationConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from models.paths import replaced_directory
from models.tokenizer import save_tokenizer


def store_model(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, destination: Path) -> None:
    """Write weights, configuration and tokenizer as one directory, atomically."""
    stored = copy.deepcopy(model).to("cpu", torch.bfloat16).eval()
    stored.set_attn_implementation("sdpa")
    stored.generation_config = GenerationConfig(eos_token_id=0, pad_token_id=0, bos_token_id=0)
    with replaced_directory(destination) as directory:
        stored.save_pretrained(directory)
        save_tokenizer(tokenizer, directory)
        for path in directory.iterdir():
            path.chmod(0o644)


def load_model(directory: Path, device: torch.device | None = None) -> LlamaForCausalLM:
    """The stored weights, computed in float32, without gradients."""
    model: LlamaForCausalLM = LlamaForCausalLM.from_pretrained(
        directory, dtype=torch.float32, local_files_only=True
    )
    return model.to(device or torch.device("cpu")).eval().requires_grad_(False)
