from __future__ import annotations

import json
from pathlib import Path

import pytest

from shared.errors import ModelError
from shared.tokenizer import load_tokenizer
from tests import tiny_tokenizers


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tiny_tokenizers.save(tiny_tokenizers.byte_level(), tmp_path / "tiny")


def test_encode_adds_bos_only_when_special_tokens_are_asked_for(directory: Path) -> None:
    tokenizer = load_tokenizer(directory)
    plain = tokenizer.encode("hello world", special=False)
    assert tokenizer.encode("hello world", special=True) == [0, *plain]
    assert tokenizer.decode(plain) == "hello world"


def test_special_tokens_are_known_and_skipped_in_text(directory: Path) -> None:
    tokenizer = load_tokenizer(directory)
    assert tokenizer.special_ids == {0, 1, 2}
    ids = tokenizer.encode("<s>hello</s>", special=False)
    assert tokenizer.decode(ids) == "hello"
    assert tokenizer.decode(ids, skip_special=False) == "<s>hello</s>"


@pytest.mark.parametrize(
    ("config", "generation", "expected"),
    [
        ({"eos_token_id": 2}, {}, {1, 2}),
        ({"eos_token_id": [2, 7]}, {"eos_token_id": 9}, {1, 2, 7, 9}),
        ({"eos_token_id": None}, {}, {1}),
    ],
)
def test_end_tokens_come_from_all_three_places(
    tmp_path: Path, config: dict[str, object], generation: dict[str, object], expected: set[int]
) -> None:
    directory = tiny_tokenizers.save(tiny_tokenizers.byte_level(), tmp_path, config=config)
    (directory / "generation_config.json").write_text(json.dumps(generation))
    assert load_tokenizer(directory).eos_token_ids == expected


def test_truncation_and_padding_of_the_training_run_are_off(tmp_path: Path) -> None:
    backend = tiny_tokenizers.byte_level()
    backend.enable_truncation(4)
    backend.enable_padding(length=64)
    tokenizer = load_tokenizer(tiny_tokenizers.save(backend, tmp_path))
    text = "hello world, how are you"
    assert tokenizer.decode(tokenizer.encode(text, special=True)) == text


def test_context_limit_and_chat_template_are_read(directory: Path) -> None:
    tokenizer = load_tokenizer(directory)
    assert tokenizer.context_limit == 256
    assert tokenizer.chat_template == tiny_tokenizers.CHAT_TEMPLATE
    (directory / "chat_template.jinja").unlink()
    settings = {"chat_template": [{"name": "rag", "template": "r"}, {"name": "default", "template": "d"}]}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    assert load_tokenizer(directory).chat_template == "d"


def test_equal_maps_have_equal_digests_and_no_difference(directory: Path, tmp_path: Path) -> None:
    one = load_tokenizer(directory)
    two = load_tokenizer(tiny_tokenizers.save(tiny_tokenizers.byte_level(), tmp_path / "again"))
    assert one.token_map_digest == two.token_map_digest
    assert one.first_difference(two.token_map) is None
    assert one.vocab_size == max(one.token_map.values()) + 1


def test_the_first_different_token_is_named(directory: Path, tmp_path: Path) -> None:
    one = load_tokenizer(directory)
    swapped = dict(one.token_map)
    swapped["</s>"], swapped["<|user|>"] = 2, 1
    assert one.first_difference(swapped) == "token id 1 is '</s>' here and '<|user|>' there"
    shorter = {token: i for token, i in one.token_map.items() if i < one.vocab_size - 1}
    assert one.first_difference(shorter) == f"token id {one.vocab_size - 1} is 'two words' here and absent there"
    doubled = one.token_map | {"zzz": 5}
    assert one.first_difference(doubled) is not None
    more = load_tokenizer(tiny_tokenizers.save(tiny_tokenizers.byte_level(vocab_size=330), tmp_path / "more"))
    assert more.token_map_digest != one.token_map_digest


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", None, "holds no tokenizer.json"),
        ("tokenizer.json", "{", "tokenizer.json cannot be read"),
        ("config.json", "[]", "not a JSON object"),
        ("tokenizer_config.json", "{", "cannot be read"),
    ],
)
def test_an_unreadable_directory_is_one_clear_line(
    directory: Path, name: str, content: str | None, message: str
) -> None:
    file = directory / name
    file.unlink() if content is None else file.write_text(content)
    with pytest.raises(ModelError, match=message) as error:
        load_tokenizer(directory)
    assert "\n" not in str(error.value)


def test_a_missing_directory_never_asks_the_network(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such directory"):
        load_tokenizer(tmp_path / "gone")
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match="not a directory"):
        load_tokenizer(tmp_path / "file")


def test_a_hub_id_is_fetched_without_weights(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def snapshot_download(model_id: str, *, allow_patterns: list[str]) -> str:
        asked.extend((model_id, *allow_patterns))
        return str(directory)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert load_tokenizer("someone/tiny").vocab_size > 300
    assert asked[0] == "someone/tiny"
    assert "tokenizer.json" in asked
    assert not any("safetensors" in str(name) for name in asked)


def test_a_hub_id_that_cannot_be_fetched_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def snapshot_download(model_id: str, *, allow_patterns: list[str]) -> str:
        raise OSError("no route\nmore detail")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    with pytest.raises(ModelError, match=r"can be downloaded \(no route\)"):
        load_tokenizer("someone/gone")


def test_a_chat_template_that_is_not_text_is_refused(directory: Path) -> None:
    (directory / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(ModelError, match=r"chat_template\.jinja: cannot be read"):
        load_tokenizer(directory)
