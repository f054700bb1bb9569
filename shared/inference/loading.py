"""Loading causal language models safely: safetensors only, no code from the model's directory."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging

from shared.errors import ModelError
from shared.inference.exact import remove_float32_islands
from shared.inference.refusals import check_config, check_files

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}

_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
_DEVICE = re.compile(r"cpu|cuda(:\d{1,3})?")
# Code and pickled weights of a hub repository are never fetched, nor is Mistral's second copy of its weights.
_FETCHED = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
_NOT_FETCHED = ["*/*", "consolidated*"]


def load_model(path_or_id: str, *, device: str, dtype: str, revision: str | None = None) -> PreTrainedModel:
    """A stock transformers model, in evaluation mode, from a directory or a Hugging Face hub id.

    `device` is "cpu", "cuda" or "cuda:<index>", `dtype` a key of DTYPES; a float64 model computes in float64
    throughout (`exact`). Raises ModelError, naming the directory and the reason, for everything that is
    refused (`refusals`), unreadable, incomplete, too large for the device, or not on this machine.
    """
    target = check_device(device)
    check_dtype(dtype)
    directory = model_directory(path_or_id, revision=revision)
    check_files(directory)
    check_config(directory)
    model = _read_weights(directory, DTYPES[dtype])
    if dtype == "float64":
        remove_float32_islands(model)
    if target.index:
        torch.cuda.set_device(target)  # or pinned memory would make a context on the first GPU, which is not ours
    try:
        return model.to(target).eval()
    except torch.OutOfMemoryError as error:
        raise ModelError(f"{directory}: does not fit into the memory of {device} as {dtype}") from error


def model_directory(path_or_id: str, *, revision: str | None = None) -> Path:
    """The local directory of a model, fetched from the hub if need be. Raises ModelError."""
    directory = Path(path_or_id).expanduser()
    if path_or_id and directory.is_dir():
        return directory
    if directory.exists() or not _HUB_ID.fullmatch(path_or_id):
        raise ModelError(f"{path_or_id or repr(path_or_id)}: no such model directory")
    try:
        fetched = snapshot_download(
            path_or_id, revision=revision, allow_patterns=_FETCHED, ignore_patterns=_NOT_FETCHED
        )
    except Exception as error:  # the hub client raises errors of several libraries
        raise ModelError(f"{path_or_id}: no such directory, nor from the hub: {first_line(error)}") from error
    return Path(fetched)


def check_device(device: str) -> torch.device:
    """The device, if this machine has it. Raises ModelError."""
    if not _DEVICE.fullmatch(device):
        raise ModelError(f"device {device!r} is not supported: use cpu, cuda or cuda:<index>")
    target = torch.device(device)
    if target.type == "cuda" and (target.index or 0) >= torch.cuda.device_count():
        raise ModelError(f"device {device!r} is not there: {torch.cuda.device_count()} CUDA devices are visible")
    return target


def check_dtype(dtype: str) -> None:
    """Raises ModelError for what is no key of DTYPES."""
    if dtype not in DTYPES:
        raise ModelError(f"dtype {dtype!r} is not one of {', '.join(DTYPES)}")


def _read_weights(directory: Path, dtype: torch.dtype) -> PreTrainedModel:
    logging.disable_progress_bar()
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            directory,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            attn_implementation="sdpa",
            output_loading_info=True,
        )
    except Exception as error:  # a malformed configuration makes transformers raise almost anything
        raise ModelError(f"{directory}: cannot be loaded: {first_line(error)}") from error
    _check_complete(directory, report)
    loaded: PreTrainedModel = model
    return loaded


def _check_complete(directory: Path, report: dict[str, Any]) -> None:
    """Transformers fills missing weights with random ones and drops those it does not know."""
    for kind in ("missing_keys", "mismatched_keys", "unexpected_keys"):
        names = sorted(str(name) for name in report.get(kind) or ())
        if names:
            raise ModelError(
                f"{directory}: {kind.replace('_', ' ')} in the weights: {names[0]} ({len(names)} in all)"
            )


def first_line(error: BaseException) -> str:
    """Kind of the error and the first line of its text."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
