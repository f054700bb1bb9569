from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from shared.errors import ModelError
from shared.inference import loading
from shared.inference.loading import check_device, load_model
from tests.unit.shared.inference.tiny_models import FAMILIES, new_model

Change = Callable[[Path], object]


@pytest.fixture(params=["llama"])
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    new_model(request.param, torch.bfloat16).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def load(path: Path | str, **changes: Any) -> Any:
    return load_model(str(path), **{"device": "cpu", "dtype": "float32", **changes})


def edit(name: str, **changes: Any) -> Change:
    def change(directory: Path) -> None:
        path = directory / name
        content = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**content, **changes}))

    return change


def write(name: str, content: str = "") -> Change:
    return lambda directory: (directory / name).write_text(content)


def remove(name: str) -> Change:
    return lambda directory: (directory / name).unlink()


def reweigh(change: Callable[[dict[str, torch.Tensor]], object]) -> Change:
    def apply(directory: Path) -> None:
        weights = load_file(directory / "model.safetensors")
        change(weights)
        save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})

    return apply


def resize(weights: dict[str, torch.Tensor]) -> None:
    weights["model.norm.weight"] = torch.ones(5)


def add_bias(weights: dict[str, torch.Tensor]) -> None:
    weights["model.layers.0.self_attn.q_proj.bias"] = torch.ones(32)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
@pytest.mark.parametrize("directory", FAMILIES, indirect=True)
def test_every_family_loads_in_the_dtype_asked_for(
    directory: Path, dtype: str, request: pytest.FixtureRequest
) -> None:
    model = load(directory, dtype=dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {loading.DTYPES[dtype]}
    assert not model.training
    stored = load_file(directory / "model.safetensors")["model.embed_tokens.weight"]
    assert torch.equal(model.get_input_embeddings().weight.data, stored.to(loading.DTYPES[dtype]))


def test_weights_in_several_files_load(directory: Path) -> None:
    weights = load_file(directory / "model.safetensors")
    (directory / "model.safetensors").unlink()
    names = sorted(weights)
    shards = {name: f"model-{index % 2}.safetensors" for index, name in enumerate(names)}
    for shard in set(shards.values()):
        part = {name: weights[name] for name in names if shards[name] == shard}
        save_file(part, directory / shard, metadata={"format": "pt"})
    write("model.safetensors.index.json", json.dumps({"metadata": {}, "weight_map": shards}))(directory)
    assert torch.equal(load(directory).lm_head.weight.data, weights["lm_head.weight"].float())


INDEX = "model.safetensors.index.json"
REFUSALS: dict[str, tuple[Change, str]] = {
    "config missing": (remove("config.json"), "config.json is missing"),
    "config not JSON": (write("config.json", "{"), "config.json cannot be read"),
    "config a list": (write("config.json", "[]"), "config.json is not a JSON object"),
    "config not UTF-8": (lambda d: (d / "config.json").write_bytes(b"\xff\xfe"), "config.json cannot be read"),
    "code in config": (edit("config.json", auto_map={"AutoModel": "m.M"}), "config.json has auto_map"),
    "code in tokenizer": (edit("tokenizer_config.json", auto_map={}), "tokenizer_config.json has auto_map"),
    "Python file": (write("modeling_own.py"), "modeling_own.py is Python code"),
    "pickled .bin": (write("pytorch_model.bin"), "pytorch_model.bin may be pickled"),
    "pickled .pt": (write("optimizer.pt"), "optimizer.pt may be pickled"),
    "pickled .pth": (write("consolidated.00.pth"), "may be pickled"),
    "pickled .pkl": (write("x.pkl"), "may be pickled"),
    "pickled .ckpt": (write("x.CKPT"), "may be pickled"),
    "adapter": (write("adapter_config.json", "{}"), "adapter"),
    "no weights": (remove("model.safetensors"), "neither model.safetensors nor"),
    "index of pickles": (write(INDEX, '{"weight_map": {"a": "x/model.bin"}}'), "only safetensors"),
    "index elsewhere": (write(INDEX, '{"weight_map": {"a": "../m.safetensors"}}'), "only safetensors"),
    "shard missing": (write(INDEX, '{"weight_map": {"a": "m.safetensors"}}'), "m.safetensors, named in"),
    "index empty": (write(INDEX, "{}"), "no weight_map"),
    "weights not safetensors": (write("model.safetensors", "not weights"), "cannot be loaded"),
    "family unknown": (edit("config.json", model_type="gpt2"), "model_type 'gpt2' is not supported"),
    "family unhashable": (edit("config.json", model_type=["llama"]), "is not supported"),
    "not causal": (edit("config.json", architectures=["LlamaForSequenceClassification"]), "not a causal LM"),
    "no architecture": (edit("config.json", architectures=None), "not a causal LM"),
    "bidirectional": (edit("config.json", is_causal=False), "is_causal"),
    "other activation": (edit("config.json", hidden_act="gelu"), "hidden_act is 'gelu'"),
    "heads rotated in part": (edit("config.json", partial_rotary_factor=0.5), "partial_rotary_factor"),
    "heads rotated in part, by rope": (
        edit("config.json", rope_parameters={"rope_type": "default", "partial_rotary_factor": 0.5}),
        "partial_rotary_factor",
    ),
    "quantised": (edit("config.json", quantization_config={"quant_method": "gptq"}), "quantization_config"),
    "dynamic rope": (edit("config.json", rope_parameters={"rope_type": "dynamic"}), "rope_parameters"),
    "old long rope": (edit("config.json", rope_scaling={"type": "longrope"}), "rope_scaling"),
    "field of wrong type": (edit("config.json", hidden_size="wide"), "cannot be loaded"),
    "weight missing": (reweigh(lambda w: w.pop("model.norm.weight")), "missing keys .* model.norm.weight"),
    "weight resized": (reweigh(resize), "model.norm.weight|cannot be loaded"),
    "weight unknown": (reweigh(add_bias), "unexpected keys .* model.layers.0.self_attn.q_proj.bias"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_directory_is_refused_in_one_line_with_its_name(directory: Path, case: str) -> None:
    change, reason = REFUSALS[case]
    change(directory)
    with pytest.raises(ModelError, match=reason) as refusal:
        load(directory)
    assert str(directory) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_what_lies_in_subdirectories_does_not_count(directory: Path) -> None:
    (directory / "original").mkdir()
    (directory / "original" / "consolidated.00.pth").touch()
    load(directory)


@pytest.mark.parametrize("path", ["./missing", "/missing/model", "a/b/c", "config.json", ""])
def test_paths_that_are_no_directory_are_refused(
    tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").touch()
    with pytest.raises(ModelError, match="no such model directory"):
        load(path)


def test_hub_ids_are_fetched_without_code_and_checked(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def fetch(repository: str, **options: Any) -> str:
        asked.update(options, repository=repository)
        return str(directory)

    monkeypatch.setattr(loading, "snapshot_download", fetch)
    load("someone/model", revision="abc")
    assert (asked["repository"], asked["revision"]) == ("someone/model", "abc")
    assert not {".py", ".bin", ".pt"} & {Path(pattern).suffix for pattern in asked["allow_patterns"]}
    edit("config.json", auto_map={})(directory)
    with pytest.raises(ModelError, match="auto_map"):
        load("someone/model")


def test_an_unreachable_hub_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(repository: str, **options: Any) -> str:
        raise OSError("Name or service not known\nand more")

    monkeypatch.setattr(loading, "snapshot_download", fetch)
    with pytest.raises(ModelError, match=r"someone/model: .* Name or service not known$"):
        load("someone/model")


@pytest.mark.parametrize("device", ["tpu", "mps", "cuda:x", "", "cuda:99"])
def test_devices_that_are_not_there_are_refused(device: str) -> None:
    with pytest.raises(ModelError, match=repr(device)):
        check_device(device)


def test_unknown_dtypes_are_refused(directory: Path) -> None:
    with pytest.raises(ModelError, match=r"float16.*float32, bfloat16, float64"):
        load(directory, dtype="float16")
