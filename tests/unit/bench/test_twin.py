from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from bench import twin as twins
from bench.enlargement import MARGIN, TwinShape, enlarge
from bench.twin import build_twin, cached_twin, compare, count_multiplied, count_stored
from models.paths import DRAFT, TARGET
from shared.errors import ModelError
from shared.inference.exact import remove_float32_islands
from shared.inference.loading import load_model
from shared.inference.plan import PlanRow, build_plan
from shared.inference.runner import ModelRunner
from shared.tokenizer import load_tokenizer
from tests.unit.shared.inference.tiny_models import VOCAB, new_model, stock_model
from tests.unit.shared.inference.token_trees import tokens

SMALL = TwinShape(layers=8, hidden=384, mlp=1024, vocab=5000, dtype="float32")
TINY = TwinShape(
    layers=2, hidden=48, mlp=48, vocab=VOCAB + 9, dtype="float64"
)  # of 2 x 32, heads of 8, groups of 2


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_twin(TARGET, tmp_path_factory.mktemp("twin") / "small", SMALL)


def enlarged(source: Any, shape: TwinShape) -> LlamaForCausalLM:
    config, weights = enlarge(source, shape)
    model: LlamaForCausalLM = LlamaForCausalLM(config).double().eval()
    model.load_state_dict(weights)
    remove_float32_islands(model)
    return model


def logits(model: Any, ids: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model(torch.tensor([ids]), use_cache=False).logits[0]
    return found


shapes = st.builds(
    TwinShape,
    layers=st.integers(2, 4),
    hidden=st.integers(3, 6).map(lambda groups: 16 * groups),
    mlp=st.integers(48, 80),
    vocab=st.integers(VOCAB, 2 * VOCAB),
    seed=st.integers(0, 2**63 - 1),
    dtype=st.just("float64"),
)


@settings(max_examples=25)
@given(shapes, st.sampled_from(["llama", "llama3-rope"]), st.lists(tokens, min_size=1, max_size=12))
def test_logits_of_any_shape_are_the_sources_and_padding_is_never_drawn(
    shape: TwinShape, family: str, ids: list[int]
) -> None:
    expected = logits(stock_model(family, torch.float64), ids)
    actual = logits(enlarged(stock_model(family, torch.float64), shape), ids)
    assert actual.shape == (len(ids), shape.vocab)
    torch.testing.assert_close(actual[:, :VOCAB], expected, rtol=0, atol=1e-11)
    assert bool((actual[:, VOCAB:] <= expected.min() - MARGIN).all())
    assert bool(actual.isfinite().all())


def test_padding_stays_below_when_weights_are_huge_or_hidden_states_tiny() -> None:
    for factor in (1e-4, 30.0):
        source = copy.deepcopy(stock_model("llama", torch.float64))
        with torch.no_grad():
            for name, weight in source.named_parameters():
                weight.mul_(factor if "norm" not in name else 1.0)
        actual = logits(enlarged(source, TINY), [3, 1, 4])
        assert bool((actual[:, VOCAB:].amax(1) <= actual[:, :VOCAB].amin(1) - MARGIN).all())
        assert bool(actual.float().isfinite().all())


def test_what_is_added_has_weights_and_is_cut_off_only_on_the_way_back() -> None:
    shape = replace(TINY, layers=3)
    _, weights = enlarge(stock_model("llama", torch.float64), shape)
    for layer in range(shape.layers):
        for name in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj"):
            assert int((weights[f"model.layers.{layer}.{name}.weight"] == 0).sum()) == 0
    for name in ("self_attn.o_proj", "mlp.down_proj"):
        assert not weights[f"model.layers.2.{name}.weight"].any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": 1}, "layers is 1; the least is 2"),
        ({"hidden": 32}, "hidden is 32; the least is 33"),
        ({"hidden": 40}, "hidden is 40; it must be a multiple of 16"),
        ({"mlp": 47}, "mlp is 47; the least is 48"),
        ({"vocab": VOCAB - 1}, f"vocab is {VOCAB - 1}; the least is {VOCAB}"),
        ({"seed": -1}, "seed is -1; it must be from 0"),
        ({"dtype": "float16"}, "dtype is 'float16'; it must be one of float32, bfloat16, float64"),
        ({"layers": 10**9}, "layers 1000000000, .* the limit is 2,000,000,000"),
        ({"dtype": "bfloat16"}, r"dtype is .*bfloat16; it cannot hold model.embed_tokens.weight"),
    ],
    ids=str,
)
def test_wrong_shapes_are_refused_with_field_value_and_limit(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        enlarge(stock_model("llama", torch.float64), replace(TINY, **changes))


@pytest.mark.parametrize("family", ["qwen3", "mistral"])
def test_other_families_are_refused(family: str) -> None:
    with pytest.raises(ModelError, match="model_type of the source is"):
        enlarge(new_model(family, torch.float64), TINY)


def test_a_source_without_epsilon_is_refused() -> None:
    source = LlamaForCausalLM(
        LlamaConfig(**{**stock_model("llama", torch.float64).config.to_dict(), "rms_norm_eps": 0.0})
    )
    with pytest.raises(ModelError, match=r"rms_norm_eps of the source is 0\.0"):
        enlarge(source, TINY)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_embedded_targets_twin_has_its_logits_and_greedy_tokens(twin: Path, dtype: Any) -> None:
    likeness = compare(TARGET, twin, dtype, num_tokens=12)
    assert likeness.holds, likeness
    assert likeness.same_greedy == twins.NUM_PROMPTS
    assert likeness.padding_gap > MARGIN


def test_the_packed_forward_of_a_token_tree_agrees(twin: Path) -> None:
    """Two branches under a root, as a verification step reads them."""
    ids, parents = np.array([100, 7, 9, 11]), np.array([-1, 0, 0, 2])
    row = PlanRow(
        context=np.zeros(0, np.int32), tokens=ids, parents=parents, slots=np.arange(4), logits=np.arange(4)
    )
    source, large = (
        ModelRunner(load_model(str(path), device="cpu", dtype="float64"), 16).logits(build_plan([row]))
        for path in (TARGET, twin)
    )
    assert large.shape == (4, SMALL.vocab)
    np.testing.assert_allclose(large[:, : source.shape[1]], source, rtol=0, atol=1e-9)
    assert large[:, source.shape[1] :].max() < source.min() - MARGIN


def test_the_embedded_draft_serves_it(twin: Path) -> None:
    target, draft, large = (load_tokenizer(path) for path in (TARGET, DRAFT, twin))
    assert large.token_map_digest == target.token_map_digest == draft.token_map_digest
    assert large.eos_token_ids == target.eos_token_ids
    assert large.chat_template == target.chat_template
    assert large.context_limit == target.context_limit


def test_parameters_are_counted_as_stored_and_as_multiplied(twin: Path) -> None:
    model = load_model(str(twin), device="cpu", dtype="float32")
    assert count_stored(twin) == sum(parameter.numel() for parameter in model.parameters())
    assert count_multiplied(twin) == count_stored(twin) - SMALL.vocab * SMALL.hidden
    assert count_multiplied(TARGET) == count_stored(TARGET)  # tied


def test_a_twin_that_is_there_is_kept_and_another_one_replaced(tmp_path: Path) -> None:
    shape = TwinShape(layers=6, hidden=384, mlp=768, vocab=4096, dtype="bfloat16")
    path = build_twin(TARGET, tmp_path / "twin", shape)
    weights = path / "model.safetensors"
    before = weights.stat().st_ino
    assert build_twin(TARGET, path, shape).joinpath("model.safetensors").stat().st_ino == before
    build_twin(TARGET, path, replace(shape, seed=1))
    assert weights.stat().st_ino != before
    assert json.loads((path / twins.RECORD).read_text())["shape"]["seed"] == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["twin"]


def test_equal_seeds_give_equal_files(tmp_path: Path) -> None:
    shape = TwinShape(layers=6, hidden=384, mlp=768, vocab=4096, dtype="bfloat16")
    first, second = (build_twin(TARGET, tmp_path / name, shape) for name in ("a", "b"))
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes()


def test_a_directory_that_holds_something_else_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ModelError, match="holds no twin and is not overwritten"):
        build_twin(TARGET, tmp_path, SMALL)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_the_cached_twin_is_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twins, "CACHE", tmp_path)
    shape = TwinShape(layers=6, hidden=384, mlp=768, vocab=4096, dtype="bfloat16")
    path = cached_twin(shape)
    before = path.stat().st_ino
    assert cached_twin(shape) == path == tmp_path / "twin-6x384x768x4096-bfloat16-0"
    assert path.stat().st_ino == before


def test_the_command_reports_and_refuses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = ["--layers", "6", "--hidden", "384", "--mlp", "768", "--vocab", "4100", "--dtype", "bfloat16"]
    monkeypatch.setattr(twins, "compare", lambda *a: compare(*a, num_tokens=2))
    assert twins.main(["--out", str(tmp_path / "twin"), *small]) == 0
    assert capsys.readouterr().out.count("same outputs") == 2
    assert twins.main(["--out", str(tmp_path / "twin"), *small, "--json"]) == 0
    assert all(entry["holds"] for entry in json.loads(capsys.readouterr().out)["likeness"])
    with pytest.raises(SystemExit, match="2"):
        twins.main(["--out", str(tmp_path / "other"), "--hidden", "300"])
    assert "hidden is 300; it must be a multiple of 128" in capsys.readouterr().err
