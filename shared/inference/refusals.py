"""What a model directory must not contain or ask for; looked at before any of it is loaded.

Only the directory itself counts: transformers reads nothing from its subdirectories.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from shared.errors import ModelError

# Families whose packed logits are tested against the stock forward. Others differ in ways that give wrong
# tokens silently: soft-capped scores, attention sinks, ALiBi, local layers with their own rotary base.
TESTED_ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}

_PICKLED = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib")
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"

# Their frequencies depend on the longest sequence of the batch, so a token's logits would too.
_BATCH_DEPENDENT_ROPE = ("dynamic", "longrope")


def check_files(directory: Path) -> None:
    """Raises ModelError for code, pickled weights, adapters and missing or strange safetensors."""
    try:
        names = sorted(entry.name for entry in directory.iterdir())
    except OSError as error:
        raise ModelError(f"{directory}: cannot be read: {error.strerror}") from error
    for name in names:
        if name.lower().endswith((".py", ".pyc")):
            raise ModelError(f"{directory}: {name} is Python code; models with code of their own are refused")
        if name.lower().endswith(_PICKLED):
            raise ModelError(f"{directory}: {name} may be pickled; only safetensors weights are read, remove it")
    if "adapter_config.json" in names:
        raise ModelError(f"{directory}: adapter_config.json makes this an adapter; merge it into its model first")
    if INDEX in names:
        _check_index(directory, read_json(directory / INDEX))
    elif SINGLE not in names:
        raise ModelError(f"{directory}: neither {SINGLE} nor {INDEX} is there")


def check_config(directory: Path) -> None:
    """Raises ModelError for remote code, and for architectures and options the packed attention lacks."""
    config = read_json(directory / "config.json")
    tokenizer = directory / "tokenizer_config.json"
    _refuse_auto_map(directory, "config.json", config)
    if tokenizer.exists():
        _refuse_auto_map(directory, tokenizer.name, read_json(tokenizer))
    _check_architecture(directory, config)
    if config.get("quantization_config") is not None:
        raise ModelError(f"{directory}: quantization_config: quantised weights are not supported")
    if config.get("is_causal", True) is not True:
        raise ModelError(f"{directory}: is_causal is {config['is_causal']!r}: only causal models generate text")
    if config.get("hidden_act", "silu") != "silu":
        raise ModelError(f"{directory}: hidden_act is {config['hidden_act']!r}; only 'silu' is supported")
    for field in ("rope_parameters", "rope_scaling"):
        rope = config.get(field)
        kind = rope.get("rope_type", rope.get("type")) if isinstance(rope, dict) else None
        if kind in _BATCH_DEPENDENT_ROPE:
            raise ModelError(f"{directory}: {field} of type {kind!r} makes logits depend on the batch; refused")
        parts = [part.get("partial_rotary_factor", 1.0) for part in (config, rope) if isinstance(part, dict)]
        if any(part != 1.0 for part in parts):
            raise ModelError(
                f"{directory}: partial_rotary_factor is not 1: heads rotated in part are not supported"
            )


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises ModelError naming the file when it is not one."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"{path.parent}: {path.name} is missing") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{path.parent}: {path.name} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path.parent}: {path.name} is not a JSON object")
    return content


def _refuse_auto_map(directory: Path, name: str, content: dict[str, Any]) -> None:
    if "auto_map" in content:
        raise ModelError(f"{directory}: {name} has auto_map; models with code of their own are refused")


def _check_architecture(directory: Path, config: dict[str, Any]) -> None:
    model_type, architectures = config.get("model_type"), config.get("architectures")
    supported = ", ".join(TESTED_ARCHITECTURES.values())
    expected = TESTED_ARCHITECTURES.get(model_type) if isinstance(model_type, str) else None
    if expected is None:
        raise ModelError(f"{directory}: model_type {model_type!r} is not supported; supported: {supported}")
    if architectures != [expected]:
        raise ModelError(
            f"{directory}: architectures {architectures!r} instead of [{expected!r}]; not a causal LM"
        )


def _check_index(directory: Path, index: dict[str, Any]) -> None:
    shards = index.get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise ModelError(f"{directory}: {INDEX} has no weight_map")
    for shard in sorted({str(name) for name in shards.values()}):
        if not shard.endswith(".safetensors") or Path(shard).name != shard:
            raise ModelError(f"{directory}: {INDEX} names {shard!r}; only safetensors files beside it are read")
        if not (directory / shard).is_file():
            raise ModelError(f"{directory}: {shard}, named in {INDEX}, is missing")
