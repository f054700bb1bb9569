from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from shared.errors import ModelError
from shared.inference.shard_loading import check_shards, load_shard
from shared.inference.sharding import Rank
from tests.unit.shared.inference.tiny_models import new_model

ALONE: Any = None  # a group that nothing is summed over


def saved(directory: Path, family: str = "llama") -> Path:
    new_model(family, torch.float32).save_pretrained(directory)
    return directory


def load(directory: Path, index: int = 0, **changes: Any) -> Any:
    rank = Rank(index, 2, ALONE)
    return load_shard(str(directory), **{"device": "cpu", "dtype": "float32", "rank": rank, **changes})


def configure(directory: Path, **changes: Any) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def rewrite(directory: Path, **changes: torch.Tensor | None) -> None:
    path = directory / "model.safetensors"
    tensors = {**load_file(path), **{name.replace("__", "."): tensor for name, tensor in changes.items()}}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, path)


@pytest.mark.parametrize(
    ("changes", "count", "message"),
    [
        ({}, 4, "num_key_value_heads=2 does not divide by 4 ranks"),
        ({"num_key_value_heads": None}, 3, "num_key_value_heads=4 does not divide by 3 ranks"),
        ({"intermediate_size": 49}, 2, "intermediate_size=49 does not divide by 2 ranks"),
        ({"model_type": "gemma2"}, 2, "model_type 'gemma2' is not supported"),
    ],
)
def test_what_ranks_cannot_share_is_refused_by_name(
    tmp_path: Path, changes: dict[str, Any], count: int, message: str
) -> None:
    configure(saved(tmp_path), **changes)
    with pytest.raises(ModelError, match=message):
        check_shards(str(tmp_path), count)


def test_a_family_that_is_served_but_not_divided_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.inference.sharding.DIVIDED_FAMILIES", ("llama",))
    with pytest.raises(
        ModelError, match="model_type 'qwen3' cannot be divided among ranks; those that can: llama"
    ):
        check_shards(str(saved(tmp_path, "qwen3")), 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model__norm__weight": None}, "missing keys in the weights: model.norm.weight"),
        ({"model__extra__weight": torch.zeros(2)}, "unexpected keys in the weights: model.extra.weight"),
        (
            {"model__layers__0__mlp__down_proj__weight": torch.zeros(32, 50)},
            r"mismatched keys in the weights: model.layers.0.mlp.down_proj.weight has shape \[32, 50\]",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(
    tmp_path: Path, changes: dict[str, torch.Tensor | None], message: str
) -> None:
    rewrite(saved(tmp_path), **changes)
    with pytest.raises(ModelError, match=message):
        load(tmp_path)


def test_unreadable_weights_are_an_error_of_the_model(tmp_path: Path) -> None:
    (saved(tmp_path) / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ModelError, match="cannot be loaded: SafetensorError"):
        load(tmp_path)


def test_buffers_of_old_checkpoints_are_no_weights(tmp_path: Path) -> None:
    rewrite(saved(tmp_path), model__layers__0__self_attn__rotary_emb__inv_freq=torch.zeros(4))
    load(tmp_path)


def test_a_rank_has_its_part_only(tmp_path: Path) -> None:
    whole = load_file(saved(tmp_path) / "model.safetensors")
    for index in (0, 1):
        for name, parameter in load(tmp_path, index).named_parameters():
            is_shared = "norm" in name or "embed" in name
            assert parameter.numel() * (1 if is_shared else 2) == whole[name].numel(), name


def test_the_parts_are_the_whole(tmp_path: Path) -> None:
    """Column parts stacked, row parts side by side, the rest the same on both."""
    whole = load_file(saved(tmp_path) / "model.safetensors")
    first, second = (dict(load(tmp_path, index).named_parameters()) for index in (0, 1))
    for name, tensor in whole.items():
        parts = [first[name], second[name]]
        if parts[0].shape == tensor.shape:
            assert torch.equal(parts[0], tensor), name
            assert torch.equal(parts[1], tensor), name
        else:
            joined = [torch.cat(parts, axis) for axis in range(tensor.dim())]
            assert any(torch.equal(together, tensor) for together in joined if together.shape == tensor.shape), (
                name
            )


def test_settings_of_generation_come_along(tmp_path: Path) -> None:
    saved(tmp_path)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [5, 6]}))
    assert load(tmp_path).generation_config.eos_token_id == [5, 6]


def test_dtype_and_device_are_checked_as_for_a_whole_model(tmp_path: Path) -> None:
    saved(tmp_path)
    with pytest.raises(ModelError, match="dtype 'int8' is not one of"):
        load(tmp_path, dtype="int8")
    with pytest.raises(ModelError, match="device 'cuda:9' is not there"):
        load(tmp_path, device="cuda:9")
    assert load(tmp_path, dtype="bfloat16").dtype == torch.bfloat16
