"""Loading one rank's part of a model: every rank reads from the safetensors only what it computes with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PretrainedConfig, PreTrainedModel

from shared.errors import ModelError
from shared.inference.loading import DTYPES, check_device, check_dtype, first_line, model_directory
from shared.inference.refusals import INDEX, SINGLE, check_config, check_files, read_json
from shared.inference.sharding import Rank, check_divisible, divided, drop_shared_biases, ids_per_rank, part_of

_HEAD, _EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
_OLD_BUFFERS = "rotary_emb.inv_freq"  # in checkpoints of years ago; computed from the configuration since


def check_shards(path_or_id: str, count: int) -> None:
    """Raises ModelError where ``count`` ranks cannot share the model; nothing but its configuration is read."""
    directory = model_directory(path_or_id)
    check_files(directory)
    check_config(directory)
    check_divisible(directory, _read_config(directory), count)


def load_shard(path_or_id: str, *, device: str, dtype: str, rank: Rank) -> PreTrainedModel:
    """The weights of one rank's part of a model, for a `ModelRunner` of that rank; it does not run by itself.

    Its configuration is that of the part, so the KV pool that is made for it holds the part's heads. Raises
    ModelError as `loading.load_model` does, and for what cannot be divided.
    """
    target = check_device(device)
    check_dtype(dtype)
    check_shards(path_or_id, rank.count)
    directory = model_directory(path_or_id)
    model = _empty(directory, DTYPES[dtype], rank)
    _fill(model, directory, DTYPES[dtype], target, rank)
    drop_shared_biases(model, rank)
    return model.to(target).eval()


def _empty(directory: Path, dtype: torch.dtype, rank: Rank) -> PreTrainedModel:
    """The part without weights (on torch's meta device)."""
    config = divided(_read_config(directory), rank.count)
    try:
        with torch.device("meta"):
            model: PreTrainedModel = AutoModelForCausalLM.from_config(
                config, dtype=dtype, attn_implementation="sdpa", trust_remote_code=False
            )
        if (directory / "generation_config.json").exists():
            model.generation_config = GenerationConfig.from_pretrained(directory)
    except Exception as error:  # a malformed configuration makes transformers raise almost anything
        raise ModelError(f"{directory}: cannot be loaded: {first_line(error)}") from error
    rotary = model.get_submodule("model.rotary_emb")
    model.set_submodule("model.rotary_emb", type(rotary)(config=model.config))  # its angles are no weights
    head = model.get_output_embeddings()
    part = nn.Linear(head.in_features, ids_per_rank(head.out_features, rank.count), bias=False, device="meta")
    model.set_output_embeddings(part)
    return model


def _fill(model: PreTrainedModel, directory: Path, dtype: torch.dtype, device: torch.device, rank: Rank) -> None:
    expected = dict(model.named_parameters())
    if model.config.tie_word_embeddings:
        expected.pop(_HEAD, None)
    with ExitStack() as files:
        try:
            stored = _stored(directory, files)
            _check_names(directory, set(expected), set(stored), is_tied=model.config.tie_word_embeddings)
            for name, parameter in expected.items():
                _assign(model, name, _read(directory, stored[name], name, parameter, rank).to(device, dtype))
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{directory}: cannot be loaded: {first_line(error)}") from error
        except torch.OutOfMemoryError as error:
            raise ModelError(f"{directory}: its part does not fit into the memory of {device}") from error
    if model.config.tie_word_embeddings:
        embedding = model.get_submodule("model.embed_tokens").weight
        assert isinstance(embedding, torch.Tensor)
        _assign(
            model,
            _HEAD,
            _padded(embedding[part_of(_HEAD, embedding.shape, rank)], model.get_output_embeddings().out_features),
        )


def _read(directory: Path, file: Any, name: str, parameter: nn.Parameter, rank: Rank) -> torch.Tensor:
    """This rank's part of a stored tensor. Raises ModelError when it is not as large as it should be."""
    whole = file.get_slice(name)
    part: torch.Tensor = whole[part_of(name, whole.get_shape(), rank)]
    if name == _HEAD:
        part = _padded(part, parameter.shape[0])
    if part.shape != parameter.shape:
        raise ModelError(
            f"{directory}: mismatched keys in the weights: {name} has shape {list(whole.get_shape())}, "
            f"of which a rank's part is {list(part.shape)} instead of {list(parameter.shape)}"
        )
    return part


def _stored(directory: Path, files: ExitStack) -> dict[str, Any]:
    """Name of each stored tensor -> the open file that has it."""
    opened = [files.enter_context(safe_open(path, framework="pt")) for path in _weight_files(directory)]
    return {name: file for file in opened for name in file.keys()}  # noqa: SIM118 - safe_open is no mapping


def _weight_files(directory: Path) -> Iterator[Path]:
    if not (directory / INDEX).exists():
        yield directory / SINGLE
        return
    weight_map: Mapping[str, str] = read_json(directory / INDEX)["weight_map"]
    yield from (directory / name for name in sorted(set(weight_map.values())))


def _check_names(directory: Path, expected: set[str], stored: set[str], *, is_tied: bool) -> None:
    unknown = {name for name in stored - expected if not name.endswith(_OLD_BUFFERS)}
    if is_tied:
        unknown.discard(_HEAD)
    for kind, names in (("missing", expected - stored), ("unexpected", unknown)):
        if names:
            raise ModelError(f"{directory}: {kind} keys in the weights: {min(names)} ({len(names)} in all)")


def _assign(model: nn.Module, name: str, value: torch.Tensor) -> None:
    path, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(path), attribute, nn.Parameter(value, requires_grad=False))


def _padded(rows: torch.Tensor, size: int) -> torch.Tensor:
    """Rows of zeros up to ``size``, for ids beyond the vocabulary; the same tensor where nothing is missing."""
    missing = size - rows.shape[0]
    return rows if missing <= 0 else torch.cat([rows, rows.new_zeros((missing, *rows.shape[1:]))])


def _read_config(directory: Path) -> PretrainedConfig:
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(
            directory, trust_remote_code=False, local_files_only=True
        )
    except Exception as error:  # as above
        raise ModelError(f"{directory}: cannot be loaded: {first_line(error)}") from error
    return config
