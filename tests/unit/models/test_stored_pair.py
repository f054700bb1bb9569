import json

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from models.architecture import count_parameters
from models.paths import DRAFT, TARGET
from models.tokenizer import SPECIAL_TOKENS, VOCAB_SIZE, load_tokenizer

DIRECTORIES = pytest.mark.parametrize("directory", [TARGET, DRAFT], ids=["target", "draft"])
MAX_PAIR_BYTES = 40_000_000
TEXT = 'def café(x: int) -> str:\n\t"""Naïve – 漢字."""\n    return f"{x!r:>8}"  # 🙂\n'


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@DIRECTORIES
def test_tokenizer_round_trip(directory) -> None:
    tokenizer = load_tokenizer(directory)
    ids = tokenizer(TEXT)["input_ids"]
    assert tokenizer.decode(ids) == TEXT
    assert max(ids) < VOCAB_SIZE


@DIRECTORIES
def test_tokenizer_has_exactly_the_vocabulary_and_the_special_ids(directory) -> None:
    tokenizer = AutoTokenizer.from_pretrained(directory)
    assert len(tokenizer) == VOCAB_SIZE
    assert tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS)) == [0, 1, 2, 3]
    assert tokenizer.eos_token_id == 0


def test_both_directories_carry_the_same_tokenizer() -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (TARGET / name).read_bytes() == (DRAFT / name).read_bytes()


def test_chat_template_ends_with_the_assistants_turn() -> None:
    messages = [{"role": "user", "content": "Sort a list."}]
    text = load_tokenizer(TARGET).apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert text == "<|user|>\nSort a list.<|end|><|assistant|>\n"


@DIRECTORIES
def test_stored_model_loads_and_predicts_finite_logits(directory) -> None:
    model = AutoModelForCausalLM.from_pretrained(directory, dtype="auto")
    assert isinstance(model, LlamaForCausalLM)
    assert model.dtype == torch.bfloat16
    with torch.inference_mode():
        logits = model(torch.tensor([[1, 50, 2]])).logits
    assert logits.shape == (1, 3, VOCAB_SIZE)
    assert logits.isfinite().all()


def test_sizes_are_those_of_a_target_and_its_draft() -> None:
    target, draft = (AutoModelForCausalLM.from_pretrained(path) for path in (TARGET, DRAFT))
    assert 5_000_000 < count_parameters(target) < 6_500_000
    assert 1_000_000 < count_parameters(draft) < 1_400_000
    assert target.config.max_position_embeddings == draft.config.max_position_embeddings == 2048


def test_pair_is_small_and_stored_in_bfloat16() -> None:
    files = [path for directory in (TARGET, DRAFT) for path in directory.iterdir()]
    assert sum(path.stat().st_size for path in files) < MAX_PAIR_BYTES
    for directory in (TARGET, DRAFT):
        with safe_open(directory / "model.safetensors", framework="pt") as weights:
            names = list(weights.keys())
            assert {weights.get_tensor(name).dtype for name in names} == {torch.bfloat16}


@DIRECTORIES
def test_configuration_names_no_machine_path(directory) -> None:
    config = json.loads((directory / "config.json").read_text())
    assert not any(str(value).startswith("/") for value in config.values())
